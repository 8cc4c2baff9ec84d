"""What a model's head says of rows: a label with probabilities, labels, a number, a tag for each word.

Rows are read as in training (`tokens/inputs.py`); one that is longer than the model's window loses its beginning, which is
counted. R: rows, k: outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sartor.data.rows import Labelled, Row, Tagged
from sartor.errors import Problem, TokenError
from sartor.evaluate.likelihood import PACKED_TOKENS, measuring
from sartor.events import Event, Noted, Progressed
from sartor.protocols import Outcome
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.layout import Fault
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    import torch

    from sartor.data.dataset import Dataset
    from sartor.models.base import ModelPolicy
    from sartor.models.heads import HeadSpec
    from sartor.tokens.batch import Batch
    from sartor.tokens.inputs import Inputs, Read

BLOCK = 256
"""Rows that are read before any is given back."""
PLACES = 6
"""Decimals of the numbers that are kept."""


@dataclass(frozen=True, slots=True)
class Told:
    """Raw outputs of a head for one row: [k], of tags [words, k]."""

    row: Row
    scores: np.ndarray


class Measures(Protocol):
    """What tells the outcomes of rows."""

    def block(self, rows: Sequence[Row]) -> list[Outcome]:
        """Outcomes of some rows."""
        ...

    def notes(self) -> Iterator[Noted]:
        """What the user should know about them."""
        ...


class HeadMeasurer:
    """A model with a head, with how it reads rows."""

    def __init__(self, policy: ModelPolicy, inputs: Inputs) -> None:
        if policy.head is None:
            raise ValueError("this model has no head")
        self.policy, self.inputs, self.head = policy, inputs, policy.head
        self.cut = 0

    def block(self, rows: Sequence[Row]) -> list[Outcome]:
        """Outcomes of some rows. Raises TokenError with every row that cannot be read."""
        return [outcome_of(told, self.head) for told in self.told(rows)]

    def told(self, rows: Sequence[Row]) -> list[Told]:
        """Raw outputs of the head."""
        read = read_all(self.inputs, rows, self.policy.window)
        self.cut += sum(one.cut for one in read)
        scores = through(self.policy, read, self.policy.score, of_tokens=self.head.place == "tokens")
        return [Told(row, one) for row, one in zip(rows, scores, strict=True)]

    def notes(self) -> Iterator[Noted]:
        """What the user should know about the rows measured."""
        if self.cut:
            what = "rows are longer than the model's window; their beginning was left out"
            yield Noted("warning", "E112", f"{self.cut:,} {what}")


def predict_heads(
    measurer: Measures,
    dataset: Dataset | Sequence[Row],
    indices: Sequence[int],
    *,
    task: str,
    emit: Callable[[Event], None],
) -> Iterator[Outcome]:
    """The outcome of every row of `indices`, in that order; `task` is what the progress is called. Raises TokenError."""
    for start in range(0, len(indices), BLOCK):
        rows = [dataset[int(index)] for index in indices[start : start + BLOCK]]
        yield from measurer.block(rows)
        emit(Progressed(task, start + len(rows), len(indices)))
    for note in measurer.notes():
        emit(note)


def read_all(inputs: Inputs, rows: Sequence[Row], window: int | None) -> list[Read]:
    """Every row as the model reads it. Raises TokenError with every row that cannot be read."""
    read: list[Read] = []
    problems: list[Problem] = []
    for row in rows:
        where = {"file": row.origin.file, "line": row.origin.line}
        try:
            read.append(inputs.read(row, window))
        except Fault as fault:
            problems.append(Problem(fault.code, fault.what, fix=fault.fix, **where))  # type: ignore[arg-type]
        except TokenError as fault:
            problems += [replace(problem, **where) for problem in fault.problems]  # type: ignore[arg-type]
    if problems:
        raise TokenError(*problems)
    return read


def through(
    policy: ModelPolicy, read: Sequence[Read], ask: Callable[[Batch], torch.Tensor], *, of_tokens: bool
) -> list[np.ndarray]:
    """What `ask` says of each row, float64: [k]; of tokens [T, k], those at the first token of each word, [words, k]."""
    rows = [Rendered(one.ids, _last(len(one.ids)), place) for place, one in enumerate(read)]
    found: list[np.ndarray] = [np.empty(0)] * len(rows)
    capacity = PACKED_TOKENS.get(policy.device.type, PACKED_TOKENS["cpu"])
    together = (
        pack([len(row) for row in rows], capacity) if policy.exact.packs else [[place] for place in range(len(rows))]
    )
    with measuring(policy):
        for members in together:
            batch = collate([rows[member] for member in members]).to(policy.device)
            scores = ask(batch).double().cpu().numpy()
            starts = np.cumsum([0, *batch.lengths])
            for place, member in enumerate(members):
                found[member] = scores[starts[place] + read[member].firsts] if of_tokens else scores[place]
    return found


def _last(length: int) -> np.ndarray:
    weight = np.zeros(length, np.float32)
    weight[-1] = 1
    return weight


def outcome_of(told: Told, head: HeadSpec) -> Outcome:
    """What the raw outputs mean."""
    row = told.row
    made = Outcome(
        id=row.id or str(row.origin), prompt=row.prompt_text(), reference=row.answer_text(), columns=row.columns
    )
    scores = told.scores / head.temperature
    if head.kind == "number":
        return replace(made, value=round(float(head.center + head.spread * told.scores[0]), PLACES))
    if head.kind == "classes":
        return replace(made, label=head.names[int(scores.argmax())], label_scores=_table(head, log_softmax(scores)))
    if head.kind == "labels":
        limits = np.array(head.thresholds or [0.5] * len(head.names))
        given = [name for name, there in zip(head.names, sigmoid(scores) >= limits, strict=True) if there]
        right = list(row.labels) if isinstance(row, Labelled) else None
        return replace(made, labels=given, right_labels=right, label_scores=_table(head, -np.logaddexp(0, -scores)))
    if head.kind == "tags":
        right = list(row.tags) if isinstance(row, Tagged) else None
        return replace(made, tags=[head.names[place] for place in scores.argmax(axis=1)], right_tags=right)
    return replace(made, value=round(float(told.scores[0]), PLACES))


def _table(head: HeadSpec, logp: np.ndarray) -> dict[str, float]:
    return {name: round(float(score), PLACES) for name, score in zip(head.names, logp, strict=True)}


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """[..., k] -> [..., k]"""
    moved = scores - scores.max(axis=-1, keepdims=True)
    found: np.ndarray = moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))
    return found


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """[...] -> [...]"""
    found: np.ndarray = np.exp(-np.logaddexp(0, -scores))
    return found
