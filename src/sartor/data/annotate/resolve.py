"""What annotators together say about each row, and about each pair of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from sartor.data.annotate.items import Item
from sartor.data.annotate.marks import Mark, Ranking, Sheet

How = Literal["single", "agreed", "majority", "adjudicated"]
FIRST, TIE, SECOND = "first", "tie", "second"
VERDICTS = (FIRST, TIE, SECOND)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The label of a row and how it came about."""

    label: str
    how: How
    votes: Mapping[str, str]
    """Annotator -> label."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers of one row."""

    item: Item
    better: int
    worse: int
    """Numbers of the answers, in the order of the file."""
    votes: int
    """Annotators who say so."""
    against: int
    ties: int


def votes(sheets: Mapping[str, Sheet], row: str) -> dict[str, str]:
    """Annotator -> label of this row."""
    found = {name: sheet.answers[row].label for name, sheet in sorted(sheets.items()) if row in sheet.answers}
    return {name: label for name, label in found.items() if label is not None}


def disagreed(items: Sequence[Item], sheets: Mapping[str, Sheet]) -> list[Item]:
    """The rows that have different labels."""
    return [item for item in items if len(set(votes(sheets, item.key).values())) > 1]


def resolved(
    row: str, sheets: Mapping[str, Sheet], decisions: Mapping[str, Mark], *, majority: bool
) -> Resolved | None:
    """The label that holds for a row: what was adjudicated; what all agree on; where `majority` is allowed, more than half.

    None where there is no answer, or no such label.
    """
    said = votes(sheets, row)
    decision = decisions.get(row)
    if decision is not None and decision.label is not None:
        return Resolved(decision.label, "adjudicated", said)
    counts = Counter(said.values()).most_common()
    if not counts:
        return None
    label, count = counts[0]
    if len(counts) == 1:
        return Resolved(label, "agreed" if count > 1 else "single", said)
    return Resolved(label, "majority", said) if majority and 2 * count > len(said) else None


def latest(sheets: Mapping[str, Sheet]) -> dict[str, Mark]:
    """Row -> the newest answer of anyone: what adjudicators decided last."""
    found: dict[str, Mark] = {}
    for sheet in sheets.values():
        for row, mark in sheet.answers.items():
            if row not in found or found[row].time < mark.time:
                found[row] = mark
    return found


def level_of(ranking: Ranking) -> dict[int, int]:
    """Number of each answer -> its level, 0 the worst."""
    return {place: level for level, places in enumerate(ranking) for place in places}


def ranks(ranking: Ranking) -> list[int]:
    """Rank of each answer, 1 the best; equally good ones share the better rank, as in a race."""
    levels = level_of(ranking)
    return [1 + sum(levels[other] > levels[place] for other in levels) for place in sorted(levels)]


def verdicts(ranking: Ranking) -> Iterator[tuple[int, int, str]]:
    """For each two answers, which one is better: (number, higher number, first | tie | second)."""
    levels = level_of(ranking)
    for one, other in combinations(sorted(levels), 2):
        apart = levels[one] - levels[other]
        yield one, other, FIRST if apart > 0 else SECOND if apart < 0 else TIE


def pairs(items: Sequence[Item], sheets: Mapping[str, Sheet]) -> Iterator[Pair]:
    """Pairs of answers of which more annotators prefer the one than the other; ties, copies and empty answers give none."""
    for item in items:
        found: Counter[tuple[int, int, str]] = Counter()
        for sheet in sheets.values():
            mark = sheet.answers.get(item.key)
            if mark is not None and mark.ranking is not None:
                found.update(verdicts(mark.ranking))
        for one, other in combinations(range(len(item.answers)), 2):
            first, tie, second = (found[one, other, verdict] for verdict in VERDICTS)
            texts = {item.answers[place].text.strip() for place in (one, other)}
            if first == second or len(texts) < 2 or "" in texts:
                continue
            better, worse = (one, other) if first > second else (other, one)
            yield Pair(item, better, worse, max(first, second), min(first, second), tie)
