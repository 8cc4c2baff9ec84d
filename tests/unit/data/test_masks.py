"""Placeholders: the same for the same value, different for different ones, and the way back."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from sartor.data.masks import (
    KeyFile,
    keys_or_new,
    name_of,
    placeholder,
    read_keys,
    unredacted_lines,
    width_for,
    write_keys,
)
from sartor.data.personal import PLACEHOLDER
from sartor.errors import DataError


def test_a_placeholder_grows_until_it_is_the_only_one() -> None:
    names = np.array([0xABCDEF0000000000, 0xABCDEF1000000000, 0x1200000000000000], np.uint64)
    assert width_for(names[[0, 2]]) == 6
    assert width_for(names) == 7
    assert [placeholder("email", int(name), 7) for name in names] == [
        "[EMAIL_abcdef0]",
        "[EMAIL_abcdef1]",
        "[EMAIL_1200000]",
    ]
    assert all(PLACEHOLDER.fullmatch(placeholder(kind, 1, 16)) for kind in ("ip", "phone", "key"))
    assert width_for(np.array([], np.uint64)) == 6


def test_many_values_have_different_placeholders() -> None:
    names = np.array([name_of(f"email:{n}@example.com", b"s") for n in range(20_000)], np.uint64)
    width = width_for(names)
    assert len({placeholder("email", int(name), width) for name in names}) == 20_000
    assert width <= 9


def test_a_secret_decides_the_placeholder() -> None:
    assert name_of("email:a@b.ch", b"one") != name_of("email:a@b.ch", b"two")


def test_a_key_file_is_for_its_owner_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = KeyFile(keys_or_new(path).secret, {"[IP_aaaaaa]": '8.8.8.8 "x"'})
    write_keys(path, keys)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == keys == keys_or_new(path)
    assert len(keys.secret) == 32


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"secret": "zz", "values": {}}', '{"secret": "", "values": {"a": 1}}']
)
def test_what_is_no_key_file_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "k").write_text(content)
    with pytest.raises(DataError, match="S330"):
        read_keys(tmp_path / "k")


def test_a_line_of_json_stays_json() -> None:
    values = {"[URL_aaaaaa]": 'https://x.org/"a"\\b'}
    lines = ['{"a": ["see [URL_aaaaaa] or [URL_bbbbbb]"], "n": 1}\n', "plain [URL_aaaaaa]\n", '{"b":   2}\n']
    first, second, third = unredacted_lines(lines, values)
    assert json.loads(first) == {"a": ['see https://x.org/"a"\\b or [URL_bbbbbb]'], "n": 1}
    assert second == 'plain https://x.org/"a"\\b\n'
    assert third == lines[2]
