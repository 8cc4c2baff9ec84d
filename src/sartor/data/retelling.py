"""Whole texts told anew by a model, and which of its answers are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from sartor.data.making import Bench, Made, Seeded, learnt, prompts, with_prompts
from sartor.data.protected import Guard, words_of
from sartor.data.wording import normal

TOGETHER = 64
"""Rows whose texts are asked for at a time."""
SHORTEST, LONGEST = 0.3, 3.0
"""A text told anew has this share of the words of the old one, at least and at most."""
LOST, OTHER_LENGTH, SAME = (
    "something protected, or a word that the answer repeats, got lost",
    "it is empty, much shorter or much longer than what it was made from",
    "the model gave back the same text",
)

Tell = Callable[[Sequence[str], int], Sequence[str]]
"""(texts, number of the copy) -> the texts told anew."""


def retold(
    rows: Iterable[Seeded], bench: Bench, tell: Tell, *, copies: int, protect: Sequence[str], answer_words: bool
) -> Iterator[Made]:
    """Every row with its prompts told anew; nothing where what came back is not believed, which is counted by its reason."""
    guard, waiting, done = Guard(protect), iter(rows), 0
    while bunch := list(islice(waiting, TOGETHER)):
        texts = [text for seeded in bunch for text in prompts(seeded.row) if guard.free(text)]
        for copy in range(copies):
            told = dict(zip(texts, tell(texts, copy), strict=True))
            for seeded in bunch:
                kept = frozenset() if answer_words else words_of(learnt(seeded.row))
                faults: list[str] = []
                made = with_prompts(seeded.row, lambda text: _believed(text, told, guard, kept, faults))  # noqa: B023
                if faults:
                    bench.refused(faults[0])
                elif made is not seeded.row:
                    yield seeded, made
        done += len(texts) * copies
        bench.done(done)


def _believed(old: str, told: dict[str, str], guard: Guard, kept: frozenset[str], faults: list[str]) -> str:
    new = told.get(old, old).strip()
    fault = _fault(old, new, guard, kept) if old in told else None
    if fault is not None:
        faults.append(fault)
        return old
    return new if old in told else old


def _fault(old: str, new: str, guard: Guard, kept: frozenset[str]) -> str | None:
    size = len(new.split()) / max(1, len(old.split()))
    if not new or not SHORTEST <= size <= LONGEST:
        return OTHER_LENGTH
    if normal(new) == normal(old):
        return SAME
    before, after = words_of([old]), words_of([new])
    lost = any(piece not in new for piece in guard.pieces(old)) or (before & kept) - after
    return LOST if lost else None
