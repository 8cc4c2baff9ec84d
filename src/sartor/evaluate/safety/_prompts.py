"""What safety suites ask: our own small sets, files of the user, prompts of the test rows; each as a row that a model answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from sartor.data import reading
from sartor.data.rows import Example, Message, Origin, Prompt, Row, Text
from sartor.errors import DataError, Problem, raise_errors
from sartor.evaluate.suites import Ground
from sartor.protocols import Outcome

SHOWN = 5
"""Faults of a file that are told."""
OWN = "own"
"""What ids of our own sets begin with."""


def own_text(name: str) -> str:
    """A file of `embedded/safety`."""
    return resources.files("sartor.embedded").joinpath("safety", name).read_text(encoding="utf-8")


def own_records(name: str) -> list[Mapping[str, Any]]:
    """The records of one of our own sets."""
    return [json.loads(line) for line in own_text(name).splitlines()]


def records(data: str, root: Path, needed: Mapping[str, type | tuple[type, ...]], example: str) -> list[dict[str, Any]]:
    """The records of a file of the user; each has these keys with values of these types.

    Raises DataError: D113 where there is no such file, E130 for records that lack something, E131 where there are none.
    """
    found: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for path in reading.expand(data, root):
        for item in reading.records(path):
            if isinstance(item, Problem):
                problems.append(replace(item, file=item.file or data))
                continue
            record = item.value
            lacking = [key for key, kind in needed.items() if not _holds(record, key, kind)]
            if lacking:
                what = f"a record without {' and '.join(lacking)}"
                problems.append(Problem("E130", what, file=data, line=item.line, fix=f"records like {example}"))
            else:
                found.append(dict(record))
    raise_errors(DataError, [problem for problem in problems if problem.level == "error"][:SHOWN])
    if not found:
        raise nothing(data, f"records like {example}")
    return found


def _holds(record: Any, key: str, kind: type | tuple[type, ...]) -> bool:
    """Whether a record has such a value, and not an empty one."""
    value = record.get(key) if isinstance(record, Mapping) else None
    return isinstance(value, kind) and bool(not isinstance(value, str | list) or value)


def nothing(file: str | None, fix: str) -> DataError:
    """E131: there is nothing to measure."""
    return DataError(Problem("E131", "there is nothing to measure", file=file, fix=fix))


def asked(identity: str, prompt: str, answer: str = "", **columns: Any) -> Example:
    """A row of one question."""
    turns = (Message("user", prompt), Message("assistant", answer))
    return Example(origin=Origin(identity, 1), id=identity, messages=turns, columns=columns)


def said(identity: str, text: str) -> Text:
    """A row of plain text."""
    return Text(origin=Origin(identity, 1), id=identity, text=text)


def drawn(ground: Ground, indices: Sequence[int], most: int) -> list[Row]:
    """At most so many rows of the run, always the same ones."""
    order = np.random.default_rng([ground.seed, 7]).permutation(len(indices))[:most]
    return [ground.rows[int(indices[place])] for place in np.sort(order)]


def conversations(ground: Ground, most: int) -> list[Example]:
    """Test rows with a prompt that a model can answer, under the ids that they have."""
    rows = [row.conversation() if isinstance(row, Prompt) else row for row in drawn(ground, ground.test, most)]
    return [replace(row, id=f"test {row.id or row.origin}") for row in rows if isinstance(row, Example)]


def sample(rows: Sequence[Any], most: int, seed: int) -> list[Any]:
    """At most so many, in their order, always the same ones."""
    order = np.sort(np.random.default_rng([seed, 8]).permutation(len(rows))[:most])
    return [rows[place] for place in order.tolist()]


def answer(outcome: Outcome) -> str:
    """What the model wrote."""
    return (outcome.prediction or "").strip()
