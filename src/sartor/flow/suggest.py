"""Asks a model for the probability of each label of rows that are to be labelled, once per model and row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sartor.data.annotate.items import Item
from sartor.data.rows import Example, Message, Origin
from sartor.events import Event, Progressed, Stage
from sartor.flow.model import find, load
from sartor.flow.prepare import renderer_for
from sartor.store import atomic
from sartor.store.fingerprint import of_file, of_text, weights

FOLDER = "suggestions"
BLOCK = 64
STAND_IN = "."


def suggestions(
    model: str, items: Sequence[Item], labels: Sequence[str], folder: Path, emit: Callable[[Event], None]
) -> dict[str, dict[str, float]]:
    """Row -> label -> probability among the labels, from the log-probability of each label as the model's answer.

    What was asked before, of the same weights about the same labels, is kept in `folder` and not asked again. Raises
    ModelError, and TokenError for a row that the model's template refuses.
    """
    path = folder / FOLDER / f"{_identity(model, labels)}.jsonl"
    known = _read(path)
    missing = [item for item in items if item.key not in known]
    if missing:
        emit(Stage("suggest", f"{model}: {len(missing):,} rows"))
        atomic.make_folder(path.parent)
        done = 0
        for block in _scored(model, missing, labels):
            with atomic.coded(path), path.open("ab") as file:
                torn = file.tell() and not path.read_bytes().endswith(b"\n")
                lines = [json.dumps({"row": row, "scores": scores}, ensure_ascii=False) for row, scores in block]
                file.write(("\n" * bool(torn) + "\n".join(lines) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
            known.update(block)
            done += len(block)
            emit(Progressed("rows", done, len(missing)))
    return {row: _shares(scores) for row, scores in known.items()}


def _scored(model: str, items: Sequence[Item], labels: Sequence[str]) -> Iterator[list[tuple[str, dict[str, float]]]]:
    from sartor.evaluate.predict import Measurer

    opened = load(model)
    measurer = Measurer(opened.policy, opened.renderer, labels, (), 1, BLOCK, frozenset({"label"}))
    for block in _blocks(items):
        outcomes = measurer.block([_row(item) for item in block])
        yield [(item.key, dict(outcome.label_scores)) for item, outcome in zip(block, outcomes, strict=True)]


def _blocks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BLOCK] for start in range(0, len(items), BLOCK))


def _row(item: Item) -> Example:
    """The row as a question; a conversation that ends with an answer is shown to the model as one text."""
    turns = [Message(turn.role or "user", turn.text) for turn in item.turns]
    if turns[-1].role != "user":
        turns = [Message("user", item.text)]
    return Example(origin=Origin(item.file, item.line), id=item.id, messages=(*turns, Message("assistant", STAND_IN)))


def _shares(scores: dict[str, float]) -> dict[str, float]:
    """Probabilities among the labels from their log-probabilities."""
    values = np.asarray(list(scores.values()))
    likely = np.exp(values - values.max())
    return dict(zip(scores, (likely / likely.sum()).tolist(), strict=True))


def _identity(model: str, labels: Sequence[str]) -> str:
    folder = find(model, Path.cwd())
    files = [*weights(folder.path), *(weights(folder.base.path) if folder.base else ())]
    parts = [*(of_file(file) for file in files), renderer_for(folder).fingerprint, *labels]
    return of_text(json.dumps(parts))[:16]


def _read(path: Path) -> dict[str, dict[str, float]]:
    """What was kept; a line torn by a kill is asked again."""
    known: dict[str, dict[str, float]] = {}
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                body: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            known[body["row"]] = body["scores"]
    return known
