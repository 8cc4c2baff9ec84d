"""Adapters that were trained on a base in few bits: merged onto what they have seen, and not onto the base as it is stored."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import exported
import job
import pytest

from sartor.methods import qlora
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.save import save_model

NF4, INT8 = {"quant_type": "nf4"}, {"quant_type": "int8"}
BITS = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (extra quant)")
DTYPES = ("float32", "bfloat16")
KINDS = [
    *(pytest.param(INT8, dtype) for dtype in DTYPES),
    *(pytest.param(NF4, dtype, marks=BITS) for dtype in DTYPES),
]


def trained(folder: Path, options: dict[str, Any], dtype: Any) -> Path:
    """An adapter on a base in few bits."""
    base = job.save_model(folder / "base")
    settings = qlora.Options(rank=2, **options)
    held = qlora.quantization(settings, dtype)
    policy = load(resolve(str(base), base), dtype=dtype, quantization=held)
    qlora.attach(policy, settings, seed=3)
    for parameter in policy.trainable().values():
        parameter.data.normal_(0, 0.1)
    facts = {"base": str(base), "base_path": str(base), "quantization": held.json(), "thinks": False}
    files = [base / "tokenizer.json", base / "tokenizer_config.json"]
    save_model(policy, folder / "tuned", base=base, files=files, template=job.CHATML, facts=facts)
    return folder / "tuned"


@pytest.mark.parametrize(("options", "dtype"), KINDS)
def test_merged_is_what_was_trained(options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    given = exported.subject(trained(tmp_path, options, dtype))
    folder = exported.made("merged", given, tmp_path / "merged", dtype="float32")
    found = exported.certified("merged", given, folder, dtype="float32")
    assert found.passed, found.markdown()


@pytest.mark.parametrize(("options", "dtype"), KINDS)
def test_the_adapter_is_certified_on_its_base(options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    given = exported.subject(trained(tmp_path, options, dtype))
    found = exported.certified("adapter", given, exported.made("adapter", given, tmp_path / "adapter"))
    assert found.passed, found.markdown()


@pytest.mark.parametrize(("options", "dtype"), [KINDS[0], KINDS[2]])
def test_a_merge_onto_the_stored_base_is_seen(options: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    """The naive merge: what the four bits stand for is forgotten."""
    tuned = trained(tmp_path, options, dtype)
    given = exported.subject(tuned)
    naive = Path(shutil.copytree(tuned, tmp_path / "naive"))
    exported.spoil(naive / "sartor.json", lambda body: {**body, "quantization": None})
    other = replace(given, source=replace(given.source, folder=resolve(str(naive), naive)))
    folder = exported.made("merged", other, tmp_path / "merged", dtype="float32")
    assert "logits" in exported.failing(exported.certified("merged", given, folder, dtype="float32"))
