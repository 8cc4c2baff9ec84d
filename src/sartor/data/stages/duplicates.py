"""Leaves out rows that another row says already, and keeps the best of each set of copies.

    clean: [duplicates]
    clean: [{duplicates: 0.9}]

At 1 copies are equal regardless of case and spacing; below, also those whose word shingles are that alike (Jaccard), found as
the split finds them (`data/clusters.py`). Rows under different labels, verdicts, system turns or tools are no copies of each
other, however alike their words. Kept is the row that the user gave to test or validation, then one whose answer is
complete, then the longest answer, the longest prompt, and at last the smallest content hash: the order of rows decides nothing.

Likeness is of words, not of meaning; rows that differ in one number of many words may count as alike below 1.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from sartor.data.cleaning import Roles
from sartor.data.clusters import cluster
from sartor.data.dataset import Dataset
from sartor.data.groups import Rows, first_equal, first_same
from sartor.data.outcome import Drop, Outcome, Short
from sartor.data.rows import Example, Judged, Labelled, Message, Preference, Prompt, Ranking, Row, Scored, Tagged, Text
from sartor.data.wording import answered, asked, normal

__all__ = ["Options", "decide"]

EXACT = "says the same as a row that is kept"
NEAR = "says nearly the same as a row that is kept"
COMPLETE = re.compile(r"""[.!?\u2026\u3002\uff01\uff1f\u061f\u0964)\]}>"'\u201d\u00bb`|\d]\s*\Z""")
"""How an answer ends that was not cut off."""


class Options(Short):
    """From where on rows are copies."""

    main: ClassVar[str] = "similarity"

    similarity: Annotated[float, Field(gt=0, le=1)] = 1.0
    """1: equal regardless of case and spacing; below: Jaccard similarity of word shingles, as in data.split.near_duplicates."""


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Drops rows; changes none."""
    exact = first_equal(dataset.index.text)
    alike: Rows = exact
    if options.similarity < 1 and len(dataset):
        alike = first_same(cluster(dataset, options.similarity, seen=seen).alike, len(dataset))
    copies = np.flatnonzero(alike != np.arange(len(dataset)))
    several = np.flatnonzero(np.isin(alike, np.unique(alike[copies])))
    sets: dict[int, list[int]] = defaultdict(list)
    for row in several.tolist():
        sets[int(alike[row])].append(row)
    kept: dict[int, int] = {}
    done = 0
    for members in sets.values():
        for same in _same(dataset, members):
            best = min(same, key=lambda row: _rank(dataset, roles, row))
            kept |= {row: best for row in same if row != best}
        done += len(members)
        seen(len(dataset) - len(several) + done)
    for row in sorted(kept):
        best = kept[row]
        yield row, Drop(EXACT if exact[row] == exact[best] else NEAR, because_of=dataset.origin(best))


def _same(dataset: Dataset, members: list[int]) -> Iterator[list[int]]:
    """Those of the rows that can be copies of each other, two at least."""
    by_frame: dict[str, list[int]] = defaultdict(list)
    for row in members:
        by_frame[_frame(dataset[row])].append(row)
    yield from (rows for rows in by_frame.values() if len(rows) > 1)


def _frame(row: Row) -> str:
    """What must be equal in copies."""
    turns: tuple[Message, ...] = ()
    facts: list[Any] = []
    match row:
        case Scored():
            facts = [row.score]
        case Labelled():
            facts = [row.labels]
        case Tagged():
            facts = [row.tags]
        case Example():
            turns, facts = row.messages, [row.label, row.tools]
        case Prompt():
            turns, facts = row.messages, [row.tools]
        case Judged():
            turns, facts = row.prompt, [row.liked]
        case Preference():
            turns = row.prompt
        case Ranking():
            turns, facts = row.prompt, [row.scores]
    systems = [normal(turn.content) for turn in turns if turn.role == "system"]
    return json.dumps([row.kind, systems, facts], sort_keys=True)


def _rank(dataset: Dataset, roles: Roles, number: int) -> tuple[int, bool, int, int, str, int]:
    """The smallest is kept."""
    row = dataset[number]
    answer = row.text if isinstance(row, Text) else answered(row)
    complete = COMPLETE.search(answer) is not None
    size, said = len(normal(asked(row))), len(normal(answer))
    return -max(int(roles[number]), 0), not complete, -said, -size, dataset.content_hash(number), number
