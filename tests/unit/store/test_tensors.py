"""Tensors cut over files come back whole, or in any part that is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.store.tensors import Part, Stored, save_tensors

ROWS = 7
WHOLE = torch.arange(3.0 * ROWS).reshape(ROWS, 3)


def write(folder: Path, cuts: list[int]) -> Path:
    """`cut` in as many files as there are pieces, `single` and `other` in the first and the last."""
    ends = [*cuts, ROWS]
    for index, (start, stop) in enumerate(zip([0, *cuts], ends, strict=True)):
        tensors, parts = {}, {}
        if start < stop:
            tensors["cut"], parts["cut"] = WHOLE[start:stop].contiguous(), Part(start, stop, ROWS)
        if index == 0:
            tensors["single"] = torch.tensor(5.0)
        if index == len(cuts):
            tensors["other"] = torch.arange(4).bfloat16()
        save_tensors(tensors, folder / f"w-{index}-of-{len(ends)}.safetensors", parts)
    return folder


@given(st.lists(st.integers(0, ROWS), max_size=3).map(sorted), st.integers(0, ROWS), st.integers(0, ROWS))
def test_any_part_of_any_cut(tmp_path_factory, cuts, one, two):
    folder = write(tmp_path_factory.mktemp("w"), cuts)
    stored = Stored(folder, "w")
    assert sorted(stored) == ["cut", "other", "single"]
    assert torch.equal(stored["cut"], WHOLE)
    start, stop = sorted((one, two))
    some = Stored(folder, "w", lambda name: Part(start, stop, ROWS))
    assert torch.equal(some["cut"], WHOLE[start:stop])
    assert float(some["single"]) == 5.0
    assert some["other"].dtype == torch.bfloat16
    assert len(some["other"]) == 4


def test_a_missing_or_doubled_part_is_noticed(tmp_path):
    folder = write(tmp_path, [2, 5])
    (folder / "w-1-of-3.safetensors").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="cut is not whole"):
        Stored(folder, "w")
    (folder / "w-1-of-3.safetensors").write_bytes((folder / "w-0-of-3.safetensors").read_bytes())
    with pytest.raises(ValueError, match="is not whole"):
        Stored(folder, "w")


def test_no_tensors_at_all(tmp_path):
    save_tensors({}, tmp_path / "w.safetensors", {})
    assert not Stored(tmp_path, "w")
