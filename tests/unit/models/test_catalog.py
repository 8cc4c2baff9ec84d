"""A model reference leads to one folder, and a folder that could run code is refused before anything reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny

from sartor.errors import ModelError
from sartor.models.catalog import resolve


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tiny.save_folder(tmp_path_factory.mktemp("models") / "good")


@pytest.fixture
def copy(good, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in good.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def refused(code, reference, root, **kwargs):
    with pytest.raises(ModelError) as caught:
        resolve(str(reference), root, **kwargs)
    problem = caught.value.problems[0]
    assert problem.code == code
    return problem


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_folder_by_absolute_and_relative_path(good):
    assert resolve(str(good), good).path == good.resolve()
    found = resolve("good", good.parent)
    assert (found.kind, found.window, found.vocabulary) == ("model", 256, tiny.VOCABULARY)
    assert found.root is found


def test_what_is_not_there(tmp_path):
    assert "no model folder" in refused("M100", "./nowhere", tmp_path).what
    (tmp_path / "empty").mkdir()
    refused("M102", "empty", tmp_path)


def test_a_revision_of_a_local_folder_has_no_effect_and_is_refused(good):
    refused("M109", good, good, revision="main")


def test_a_hub_id_without_network_names_the_remedy(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert "network" in refused("M100", "somebody/something", tmp_path).fix


def test_a_hub_id_asks_only_for_safe_files(good, tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(good)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("somebody/something", tmp_path, revision="abc").path == good
    assert asked["revision"] == "abc"
    assert not any(pattern.endswith((".py", ".bin", ".pt")) for pattern in asked["patterns"])


@pytest.mark.parametrize(
    "change",
    [{"auto_map": {"AutoModel": "x.py"}}, {"_attn_implementation_internal": "evil/kernel"}, {"kernels_config": {}}],
)
def test_a_config_that_would_run_code_is_refused(copy, change):
    edit(copy, **change)
    assert next(iter(change)) in refused("M105", copy, copy).what


def test_pickled_weights_are_refused_and_missing_ones_told(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "safetensors" in refused("M103", copy, copy).fix
    (copy / "pytorch_model.bin").unlink()
    refused("M104", copy, copy)


def test_shards_must_be_there_and_stay_inside(copy):
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    assert "model-2" in refused("M104", copy, copy).what
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    refused("M108", copy, copy)


@pytest.mark.parametrize("text", ["{", "[]", "\xff\xfe"])
def test_a_broken_config_is_told(copy, text):
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    refused("M102", copy, copy)


def test_an_adapter_finds_its_base_by_our_reference_first(good, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/gone/elsewhere"}))
    problem = refused("M106", adapter, tmp_path)
    assert "/gone/elsewhere" in problem.what
    (adapter / "sartor.json").write_text(json.dumps({"base": str(good)}))
    found = resolve(str(adapter), tmp_path)
    assert (found.kind, found.root.path) == ("adapter", good.resolve())


def test_an_adapter_on_an_adapter_is_refused(good, tmp_path):
    for name, base in (("one", good), ("two", "one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    refused("M107", "two", tmp_path)


def test_a_run_without_a_model_yet(tmp_path):
    for name in ("recipe.yaml", "resolved.yaml"):
        (tmp_path / name).write_text("version: 1\n")
    refused("M101", tmp_path, tmp_path)


@pytest.mark.parametrize(("name", "window"), [("roberta", 256), ("bert", 256), ("distilbert", 256), ("t5", 256)])
def test_the_window_counts_the_places_there_are(tmp_path: Path, name: str, window: int) -> None:
    assert resolve(str(tiny.save_folder(tmp_path, name)), tmp_path).window == window
