"""Settles rows that ask the same and answer differently: one of them is wrong.

    clean: [conflicts]
    clean: [{conflicts: drop}]
    clean: [{conflicts: {keep: newest, by: date}}]

The same is asked where all turns before the answer are equal, regardless of case and spacing. Labels, verdicts (liked or not) and
preferences (the same two answers the other way round) contradict each other whenever they differ; other answers only where
both have at most 60 characters, because longer ones may just be worded differently. With `majority` the answer that most rows
give stays, and where two are given equally often all rows go. What a majority says is not always right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import model_validator

from sartor.data.cleaning import Roles
from sartor.data.dataset import Dataset
from sartor.data.groups import first_equal
from sartor.data.outcome import Drop, Outcome, Short
from sartor.data.rows import Example, Judged, Preference, Ranking, Row
from sartor.data.wording import answered, normal
from sartor.errors import DataError, Problem
from sartor.recipe.schema import Rule

__all__ = ["Options", "decide"]

SHORT = 60
"""Answers up to this many characters are facts that can contradict."""
OUTVOTED = "asks the same as other rows, most of which answer differently"
UNDECIDED = "asks the same as another row that answers differently"
OLDER = "asks the same as a newer row that answers differently"


class Options(Short):
    """Which of them stay."""

    main: ClassVar[str] = "keep"

    keep: Literal["majority", "newest", "drop"] = "majority"
    """majority: what most rows answer; newest: what the last of them answers; drop: none of them."""
    by: str | None = None
    """With newest: the column that tells the age, numbers or texts such as 2026-03-31; without, the last row read is the newest."""

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.by is not None and self.keep != "newest":
            raise Rule(f"by tells which row is the newest, but keep is {self.keep}", "by")
        return self


class _Said(NamedTuple):
    row: int
    answer: str
    age: Any


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Drops rows; changes none. Raises DataError D184 where rows to be compared have no or odd values in the column `by`."""
    prompt = dataset.index.prompt
    first = first_equal(prompt)
    again = first[(first != np.arange(len(first))) & (prompt != 0)]
    asked: dict[tuple[str, ...], list[_Said]] = defaultdict(list)
    for number in np.flatnonzero(np.isin(first, np.unique(again))).tolist():
        row = dataset[number]
        claim = _claim(row)
        if claim is not None:
            question, answer = claim
            asked[question].append(_Said(number, answer, row.columns.get(options.by) if options.by else number))
    seen(len(dataset))
    found: dict[int, Drop] = {}
    for said in asked.values():
        if len({each.answer for each in said}) > 1:
            found |= _settled(dataset, said, options)
    yield from sorted(found.items())


def _claim(row: Row) -> tuple[tuple[str, ...], str] | None:
    """What is asked, and what is said to it; None for a row that contradicts none."""
    match row:
        case Example():
            answer = answered(row)
            if row.label is None and len(answer) > SHORT:
                return None
            return ("example", normal(row.prompt_text())), normal(answer)
        case Judged():
            return ("judged", normal(row.prompt_text()), normal(row.answer_text())), str(row.liked)
        case Preference():
            chosen, rejected = (
                normal("\n".join(turn.content for turn in turns)) for turns in (row.chosen, row.rejected)
            )
            return ("preference", normal(row.prompt_text()), *sorted((chosen, rejected))), chosen
        case Ranking():
            said = [normal("\n".join(turn.content for turn in turns)) for turns in row.answers]
            levels = {score: level for level, score in enumerate(sorted(set(row.scores)))}
            order = sorted((text, levels[score]) for text, score in zip(said, row.scores, strict=True))
            return ("ranking", normal(row.prompt_text()), *sorted(said)), str(order)
        case _:
            return None


def _settled(dataset: Dataset, said: list[_Said], options: Options) -> dict[int, Drop]:
    """Which of the rows go."""
    right, reason = None, UNDECIDED
    if options.keep == "majority":
        (best, most), (_, second) = Counter(each.answer for each in said).most_common(2)
        right, reason = (best, OUTVOTED) if most > second else (None, UNDECIDED)
    elif options.keep == "newest":
        newest = _newest(dataset, said, options)
        latest = {each.answer for each in said if each.age == newest}
        right, reason = (latest.pop(), OLDER) if len(latest) == 1 else (None, UNDECIDED)
    kept = next((each.row for each in said if each.answer == right), None)
    drops = {}
    for each in said:
        if each.answer != right:
            other = kept if kept is not None else next(one.row for one in said if one.answer != each.answer)
            drops[each.row] = Drop(reason, because_of=dataset.origin(other))
    return drops


def _newest(dataset: Dataset, said: list[_Said], options: Options) -> Any:
    for each in said:
        kinds = (int, float) if isinstance(said[0].age, int | float) else (str,)
        if not isinstance(each.age, kinds) or isinstance(each.age, bool):
            origin = dataset.origin(each.row)
            what = f'clean.conflicts.by: "{options.by}" tells no age here (a number or a text needed, of one kind in all rows)'
            fix = "write the column in all rows, or leave `by` out: then the last row read is the newest"
            raise DataError(Problem("D184", what, file=origin.file, line=origin.line, fix=fix))
    return max(each.age for each in said)
