"""Every component keeps its room's contract; a new file is covered the moment it exists."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import measured
import pytest

from sartor import registry
from sartor.options import Options

FUNCTIONS = {
    "source": ["records"],
    "format": ["detects", "parse"],
    "stage": [],
    "augmentation": ["make"],
    "check": [],
    "metric": [],
    "exporter": ["write", "precision", "runtime"],
    "method": ["attach", "learning_rate", "trainable", "width"],
    "anchor": [],
    "objective": ["loss"],
    "optimizer": ["build"],
    "schedule": ["factor"],
    "watcher": ["build"],
    "tracker": ["build"],
    **{kind: ["suite", "files"] for kind in ("safety", "judge", "benchmark")},
}
"""What a file of each room must offer beside `Options`; stages, checks and metrics offer one of two (test_stages.py, test_checks.py, test_metrics.py)."""

ATTRIBUTES = {
    "source": ["EXTENSIONS"],
    "format": ["SAMPLES", "FIELDS"],
    "exporter": ["NEEDS"],
    "method": ["SAVES", "LEARNING_RATE"],
    "objective": ["TRAITS"],
    "anchor": ["importance", "BYTES"],
    **{kind: ["METRICS"] for kind in ("safety", "judge", "benchmark")},
}

WITH_OPTIONS = [(kind, name) for kind in registry.ROOMS if kind != "watcher" for name in registry.names(kind)]
"""Watchers get what they need from the recipe's train section."""

COMPONENTS = [(kind, name) for kind in registry.ROOMS for name in registry.names(kind)]


def test_every_room_is_covered_here() -> None:
    assert set(FUNCTIONS) == set(registry.ROOMS)


@pytest.mark.parametrize("kind", [kind for kind in registry.ROOMS if kind != "tracker"])
def test_every_room_has_components(kind: str) -> None:
    assert registry.names(kind)


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_a_component_keeps_its_rooms_contract(kind: str, name: str) -> None:
    module = registry.component(kind, name)
    assert isinstance(module, ModuleType)
    assert inspect.getdoc(module), "a component opens with what it does"
    assert kind == "watcher" or issubclass(module.Options, Options)
    for function in FUNCTIONS[kind]:
        assert callable(getattr(module, function, None)), f"{function} is missing"
    for attribute in ATTRIBUTES.get(kind, []):
        assert hasattr(module, attribute), f"{attribute} is missing"


@pytest.mark.parametrize(("kind", "name"), WITH_OPTIONS)
def test_options_have_defaults_and_survive_their_own_json(kind: str, name: str) -> None:
    kind_of_options = registry.component(kind, name).Options
    fields = kind_of_options.model_fields.items()
    needed = {field: info.examples[0] for field, info in fields if info.is_required() and info.examples}
    if kind == "metric" and name in measured.SPECIAL:
        needed |= measured.SPECIAL[name].options
    settings = kind_of_options(**needed)
    assert kind_of_options.model_validate(settings.model_dump(mode="json")) == settings
    with pytest.raises(ValueError, match="Extra inputs"):
        kind_of_options.model_validate({**needed, "no_such_option": 1})


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        registry.component("method", "nonesuch")


def test_names_import_no_component() -> None:
    code = (
        "import sys; from sartor import registry; "
        "[registry.names(kind) for kind in registry.ROOMS]; "
        "assert 'sartor.methods.lora' not in sys.modules; assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_third_parties_add_components_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "sartor.methods.full", "sartor.method")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "sartor.method" else [])
    registry._modules.cache_clear()
    try:
        assert "theirs" in registry.names("method")
        assert registry.component("method", "theirs") is importlib.import_module("sartor.methods.full")
    finally:
        registry._modules.cache_clear()
