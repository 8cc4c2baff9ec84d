"""Puts words into prompts, takes some out, and makes neighbours change places.

    augment: [random_edit]
    augment: [{random_edit: {rate: 0.1, kinds: [swap, delete]}}]

Source: Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques", section 2: random insertion (of a word that means the
same as one of the text), random swap, random deletion; each copy is made in one of these ways, drawn at random. Departures:
words that are protected, negations among them, neither move nor go, and a swap is of words that stand within three words of
each other, so that long prompts keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from sartor.data.making import Bench, Edits, Made, Seeded, chosen, edited
from sartor.data.protected import Span, like, replaced
from sartor.data.thesaurus import own

__all__ = ["Options", "make"]

Kind = Literal["insert", "swap", "delete"]
REACH = 3
"""Words that a swap reaches over."""
LEFT = 2
"""Words that deletion leaves at least."""


class Options(Edits):
    """How much is changed, and how."""

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("insert", "swap", "delete")
    """What may be done."""


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """Rows with edited prompts."""

    def change(text: str, free: list[Span], random: Random) -> str:
        return EDITS[random.choice(options.kinds)](text, free, options.rate, random)

    return edited(rows, options, change)


def _insert(text: str, free: list[Span], rate: float, random: Random) -> str:
    known = own()
    able = [text[begin:end] for begin, end in free if text[begin:end].casefold() in known]
    if not able:
        return text
    places = chosen(free, rate, random)
    changes = {}
    for begin, end in places:
        other = random.choice(known[random.choice(able).casefold()])
        changes[begin, end] = f"{text[begin:end]} {other}"
    return replaced(text, changes)


def _swap(text: str, free: list[Span], rate: float, random: Random) -> str:
    if len(free) < 2:
        return text
    order = list(range(len(free)))
    for _ in range(max(1, round(rate * len(free)))):
        one = random.randrange(len(free))
        near = [place for place in range(one - REACH, one + REACH + 1) if place != one and 0 <= place < len(free)]
        other = random.choice(near)
        order[one], order[other] = order[other], order[one]
    words = [text[begin:end] for begin, end in free]
    return replaced(text, {span: _in_place(words[place], words[order[place]]) for place, span in enumerate(free)})


def _in_place(model: str, word: str) -> str:
    """A word with the capital that its new place asks for; what is written in capitals stays."""
    if (word.isupper() and len(word) > 1) or word == "I":
        return word
    return like("A" if model[0].isupper() and model != "I" else "a", word if model[0].isupper() else word.lower())


def _delete(text: str, free: list[Span], rate: float, random: Random) -> str:
    count = min(max(1, round(rate * len(free))), len(free) - LEFT)
    if count < 1:
        return text
    for begin, end in sorted(random.sample(free, count), reverse=True):
        before, after = text[:begin], text[end:]
        if after[:1] == " " and (not before or before[-1].isspace()):
            after = after[1:]
        elif before[-1:] == " ":
            before = before[:-1]
        if text[begin : begin + 1].isupper() and not before.strip() and after:
            after = after[0].upper() + after[1:]
        text = before + after
    return text


EDITS: Mapping[Kind, Callable[[str, list[Span], float, Random], str]] = {
    "insert": _insert,
    "swap": _swap,
    "delete": _delete,
}
