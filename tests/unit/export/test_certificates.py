"""Certificates: honest artifacts pass, and every planted fault is seen by the check that is there for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import exported
import job
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sartor.cli.main import run
from sartor.export import certificate
from sartor.export.certificate import Certificate
from sartor.export.probes import keep, kept
from sartor.store import atomic


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("export") / "base")


@pytest.fixture(scope="module")
def tuned(base: Path) -> exported.Subject:
    """An adapter on the base."""
    return exported.subject(exported.adapter(base, base.with_name("tuned")))


@pytest.fixture(scope="module")
def merged(tuned: exported.Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported.made("merged", tuned, tmp_path_factory.mktemp("merged") / "merged")


@pytest.fixture
def copy(merged: Path, tmp_path: Path) -> Path:
    """The merged model, to be spoilt."""
    return Path(shutil.copytree(merged, tmp_path / "spoilt"))


def test_a_merged_model_loads_in_plain_transformers_with_equal_logits(tuned: exported.Subject, merged: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(merged)
    for probe, wanted in zip(tuned.probes.each, tuned.probes.first, strict=True):
        logits = model(torch.tensor([probe.ids])).logits[0, -1].detach().numpy()
        np.testing.assert_allclose(logits, wanted, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_merged_in_every_type(tuned: exported.Subject, dtype: str, tmp_path: Path) -> None:
    folder = exported.made("merged", tuned, tmp_path / "out", dtype=dtype)
    found = exported.certified("merged", tuned, folder, dtype=dtype)
    assert found.passed, found.markdown()
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {getattr(torch, dtype)}


def test_rounded_weights_do_not_pass_for_whole_ones(tuned: exported.Subject, copy: Path) -> None:
    """A naive merge: the sum rounded to the grid of a type that the certificate was not asked about."""
    tensors = load_file(copy / "model.safetensors")
    save_file({name: tensor.bfloat16().float() for name, tensor in tensors.items()}, copy / "model.safetensors")
    assert {"KL max", "logits"} & exported.failing(exported.certified("merged", tuned, copy, dtype="float32"))


def test_a_swapped_adapter_is_seen(base: Path, tuned: exported.Subject, tmp_path: Path) -> None:
    folder = exported.made("adapter", tuned, tmp_path / "out")
    assert exported.certified("adapter", tuned, folder).passed
    other = exported.adapter(base, tmp_path / "other", seed=7)
    shutil.copyfile(other / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    assert "logits" in exported.failing(exported.certified("adapter", tuned, folder))


def test_a_wrong_template_is_seen(tuned: exported.Subject, copy: Path) -> None:
    path = copy / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_start|>assistant\n", "<|im_start|>assistant"))
    assert exported.failing(exported.certified("merged", tuned, copy)) == {"prompt"}


def test_a_wrong_beginning_is_seen(tuned: exported.Subject, copy: Path) -> None:
    path = copy / "chat_template.jinja"
    path.write_text("{{- bos_token -}}" + path.read_text())
    assert exported.failing(exported.certified("merged", tuned, copy)) == {"prompt"}


def test_a_missing_stop_token_is_seen(tuned: exported.Subject, copy: Path) -> None:
    exported.spoil(copy / "generation_config.json", lambda body: {**body, "eos_token_id": 5})
    assert exported.failing(exported.certified("merged", tuned, copy)) >= {"stop tokens"}


def test_a_truncated_file_is_seen(tuned: exported.Subject, copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "opens" in exported.failing(exported.certified("merged", tuned, copy))


def test_answers_that_go_on_are_seen(tuned: exported.Subject) -> None:
    one = tuned.probes.each[0]
    longer = exported.Subject(tuned.source, tuned.probes)
    found = certificate._endings(
        longer.probes, type("Found", (), {"generated": [(*each.answer, 9) for each in longer.probes.each]})()
    )
    assert found.passed is False
    assert one.id in found.why


def test_a_certificate_survives_its_own_json(tuned: exported.Subject, merged: Path) -> None:
    found = exported.certified("merged", tuned, merged)
    again = certificate.read(json.loads(certificate.dumps(found)))
    assert isinstance(again, Certificate)
    assert again.markdown() == found.markdown()


def test_probes_are_read_as_they_were_written(tuned: exported.Subject, tmp_path: Path) -> None:
    keep(tuned.probes, tmp_path / "probes", {"model": "x"})
    again = kept(tmp_path / "probes")
    assert again.each == tuned.probes.each
    assert np.array_equal(again.first, tuned.probes.first)
    lines = tmp_path / "probes" / "probes.jsonl"
    lines.write_text(lines.read_text()[:-20])
    with pytest.raises(Exception, match="M202"):
        kept(tmp_path / "probes")


@pytest.mark.slow
def test_the_command_writes_skips_and_mends(base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = job.write_rows(tmp_path / "rows.jsonl", job.orders(6))
    words = ["export", str(base), "--as", "merged", "--out", str(tmp_path / "out"), "--data", str(rows), "--json"]

    def state() -> str:
        assert run(words) == 0
        (one,) = json.loads(capfd.readouterr().out)["artifacts"]
        assert atomic.verify(tmp_path / "out" / "merged") == []
        return str(one["state"])

    assert state() == "certified"
    assert state() == "unchanged"
    weights = tmp_path / "out" / "merged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert state() == "certified"
    assert run([*words, "--set", "merged.dtype=bfloat16"]) == 0
    assert json.loads(capfd.readouterr().out)["artifacts"][0]["state"] == "certified"


@pytest.mark.slow
def test_what_fails_is_not_promoted(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sartor.export.exporters import merged

    honest = merged.write

    def naive(source, folder, options):
        facts = honest(source, folder, options)
        tensors = load_file(folder / "model.safetensors")
        save_file({name: tensor.bfloat16().float() for name, tensor in tensors.items()}, folder / "model.safetensors")
        return facts

    monkeypatch.setattr(merged, "write", naive)
    rows = job.write_rows(tmp_path / "rows.jsonl", job.orders(6))
    assert run(["export", str(base), "--as", "merged", "--out", str(tmp_path / "out"), "--data", str(rows)]) == 1
    assert not (tmp_path / "out" / "merged").exists()
    told = json.loads((tmp_path / "out" / "merged.failed" / "certificate.json").read_text())
    assert told["pass"] is False
    assert not (tmp_path / "out" / "merged.failed" / "COMPLETE").exists()


@pytest.mark.parametrize(
    "words", [["--as", "mergd"], ["--as", "merged", "--set", "merged.dtyp=1"], ["--as", "adapter"]]
)
def test_wrong_wishes_are_refused(
    base: Path, tmp_path: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    rows = job.write_rows(tmp_path / "rows.jsonl", job.orders(6))
    assert run(["export", str(base), *words, "--out", str(tmp_path / "out"), "--data", str(rows)]) == 2
    assert not (tmp_path / "out" / words[1]).exists()
    assert "U101" in (said := capfd.readouterr().err) or "M201" in said
