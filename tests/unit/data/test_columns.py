"""Columns on disk come back as they were gathered, whatever was spooled in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sartor.data.columns import Columns, Kind, read_columns, write_columns

KINDS = {"a": Kind("q", "<i8"), "b": Kind("i", "<i4"), "wide": Kind("Q", "<u8", held=">u8", width=2)}


def test_what_is_gathered_is_read(tmp_path: Path) -> None:
    with (tmp_path / "spool").open("w+b") as spool:
        columns = Columns(KINDS, spool)
        for number in range(100):
            columns.held["a"].append(number * 2**33)
            columns.held["b"].append(-number)
            columns.held["wide"].frombytes(bytes(15) + bytes([number]))
            if number % 30 == 29:
                columns.spool()
                assert not columns.held["a"]
        columns.write(tmp_path / "columns", {"names": ["ä"]})
    found, about = read_columns(tmp_path / "columns")
    assert about == {"names": ["ä"]}
    assert found["a"].tolist() == [number * 2**33 for number in range(100)]
    assert found["b"].tolist() == [-number for number in range(100)]
    assert found["wide"].tolist() == [[0, number] for number in range(100)]
    assert not found["a"].flags.owndata, "mapped, not read"


def test_whole_columns_and_empty_ones(tmp_path: Path) -> None:
    write_columns(tmp_path / "c", {"x": np.array([1, 2, 3], np.int8), "none": np.zeros(0, np.int64)}, {})
    found, about = read_columns(tmp_path / "c")
    assert about == {}
    assert found["x"].tolist() == [1, 2, 3]
    assert found["none"].dtype == np.int64
    assert len(found["none"]) == 0
