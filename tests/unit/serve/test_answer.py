"""Pieces of an answer: nothing of a stop text is ever told, and nothing is told twice or taken back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sartor.serve.answer import Growing


def read(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "stop", "told"),
    [
        ("one two three", (), "one two three"),
        ("one two three", ("two",), "one "),
        ("one two three", ("three", "two"), "one "),
        ("one tw", ("two",), "one tw"),
        ("aaab", ("aab",), "a"),
        ("schön und gut", ("und",), "schön "),
        ("é", (), "é"),
        ("x", ("x",), ""),
    ],
)
def test_pieces_make_the_text_up_to_the_stop(text: str, stop: tuple[str, ...], told: str) -> None:
    growing, pieces, ids = Growing(read, stop), [], list(text.encode())
    for end in range(1, len(ids) + 1):
        pieces.append(growing.piece(ids[:end], over=end == len(ids)))
        if growing.stopped:
            break
    assert "".join(pieces) == told
    assert growing.stopped == any(each in text for each in stop)
    assert not any("\ufffd" in piece for piece in pieces)
