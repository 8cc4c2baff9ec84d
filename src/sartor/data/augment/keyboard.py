"""Makes slips of the fingers: a neighbouring key, two letters in the wrong order, one too many, one too few.

    augment: [keyboard]
    augment: [{keyboard: {rate: 0.05, layout: qwertz}}]

For models that must bear with how people type. Words of fewer than four letters and first letters stay as they are, since
readers bear with slips inside of words best (Belinkov and Bisk 2018, "Synthetic and Natural Noise Both Break Neural Machine
Translation", section 4.2 "Keyboard typo" and "Swap").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from sartor.data.making import Bench, Edits, Made, Seeded, chosen, edited
from sartor.data.protected import Span, like, replaced

__all__ = ["Options", "make"]

Slip = Literal["neighbour", "swap", "double", "drop"]
Layout = Literal["qwerty", "qwertz", "azerty"]
KEYS: Mapping[Layout, Sequence[str]] = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
}
"""Rows of keys; each row lies half a key to the right of the one above."""
SHORTEST = 4


class Options(Edits):
    """How many slips, and of which kind."""

    layout: Layout = "qwerty"
    """The keyboard that neighbouring keys are taken from."""
    slips: Annotated[tuple[Slip, ...], Field(min_length=1)] = ("neighbour", "swap", "double", "drop")
    """What may happen to a word."""


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """Rows with slips in their prompts."""
    near = neighbours(options.layout)

    def change(text: str, free: list[Span], random: Random) -> str:
        long = [span for span in free if span[1] - span[0] >= SHORTEST]
        if not long:
            return text
        picked = chosen(long, options.rate, random)
        return replaced(
            text, {(b, e): _slipped(text[b:e], random.choice(options.slips), near, random) for b, e in picked}
        )

    return edited(rows, options, change)


@cache
def neighbours(layout: Layout) -> Mapping[str, str]:
    """The letters on the keys around each key."""
    at = {key: (row, 2 * place + row) for row, keys in enumerate(KEYS[layout]) for place, key in enumerate(keys)}
    return {
        key: "".join(
            other for other, (r, c) in at.items() if other != key and abs(r - row) <= 1 and abs(c - column) <= 2
        )
        for key, (row, column) in at.items()
    }


def _slipped(word: str, slip: Slip, near: Mapping[str, str], random: Random) -> str:
    at = random.randrange(1, len(word) - 1)
    letter = word[at]
    if slip == "swap":
        return word[:at] + word[at + 1] + letter + word[at + 2 :]
    if slip == "double":
        return word[: at + 1] + letter + word[at + 1 :]
    if slip == "drop":
        return word[:at] + word[at + 1 :]
    around = near.get(letter.lower())
    return word[:at] + like(letter, random.choice(around)) + word[at + 1 :] if around else word
