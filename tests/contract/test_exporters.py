"""Every exporter with every architecture: what it writes is certified, or the architecture is refused by name."""

from __future__ import annotations

from pathlib import Path

import exported
import job
import pytest

from sartor import registry
from sartor.errors import ModelError
from sartor.export.certificate import BOUNDS

ARCHITECTURES = ("llama", "qwen3", "gemma3", "gpt2", "mistral", "phi3")

REFUSED = frozenset({("int8", "gpt2"), ("int4", "gpt2")})
"""What an exporter says no to, by name. An adapter is always refused here, where every model is whole."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, exported.Subject]:
    home = tmp_path_factory.mktemp("exporters")
    made = {name: job.save_model(home / name, name) for name in ARCHITECTURES}
    exported.spoil(made["mistral"] / "config.json", lambda body: {**body, "sliding_window": None})
    return {name: exported.subject(folder) for name, folder in made.items()}


SLOW = ("onnx", "executorch")
"""Exporters that take many seconds for each model: ONNX of one architecture is tested every time, the others with the slow tests."""
EVERY = [
    pytest.param(
        name,
        architecture,
        marks=[pytest.mark.slow] if name in SLOW and (name, architecture) != ("onnx", "llama") else [],
    )
    for name in registry.names("exporter")
    for architecture in ARCHITECTURES
]


@pytest.mark.parametrize(("name", "architecture"), EVERY)
def test_an_export_is_certified_or_refused(
    name: str, architecture: str, subjects: dict[str, exported.Subject], tmp_path: Path
) -> None:
    given = subjects[architecture]
    exported.needs(name)
    if (name, architecture) in REFUSED or name == "adapter":
        with pytest.raises(ModelError, match="M201"):
            exported.made(name, given, tmp_path / name)
        return
    found = exported.certified(name, given, exported.made(name, given, tmp_path / name))
    assert found.passed, found.markdown()


@pytest.mark.parametrize("name", registry.names("exporter"))
def test_an_exporter_names_bounds_that_there_are(name: str, subjects: dict[str, exported.Subject]) -> None:
    module = registry.component("exporter", name)
    assert module.precision(subjects["llama"].source, module.Options()) in BOUNDS
