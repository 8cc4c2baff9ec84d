"""What the policy is asked: the prompts of rows, made into tokens when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sartor.data.rows import Example, Message, Prompt, Row
from sartor.tokens.render import Renderer


@dataclass(frozen=True, slots=True)
class Asked:
    """The prompt of one row."""

    row: int
    """Index of the row in its data set"""
    ids: np.ndarray
    """int32 [L], up to where the answer begins"""
    messages: tuple[Message, ...]
    text: str
    """The prompt as plain text"""
    reference: str | None = None
    """The row's own answer, where it has one"""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the row"""

    def told(self) -> dict[str, Any]:
        """What a reward function of the user's sees of it."""
        return {**self.columns, "prompt": self.text, "reference": self.reference}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one prompt."""

    asked: Asked
    ids: np.ndarray
    """int32 [L], the stop token included"""
    text: str
    """Without the stop token"""
    stopped: bool
    """Whether it ended by itself"""


class Rows(Protocol):
    """Rows by index."""

    def __getitem__(self, index: int, /) -> Row: ...


class Prompts:
    """A sequence of prompts.

    Args:
        rows: the data set.
        indices: which of its rows are asked.
        renderer: makes the tokens, as training and evaluation do.
    """

    def __init__(self, rows: Rows, indices: Sequence[int] | np.ndarray, renderer: Renderer) -> None:
        self._rows, self._renderer = rows, renderer
        self.indices = [int(index) for index in indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Asked]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> Asked:
        """Raises TokenError where the chat template refuses the turns."""
        index = self.indices[place]
        row = self._rows[index]
        if isinstance(row, Example):
            turns, reference = row.prompt(), row.answer_text()
        else:
            assert isinstance(row, Prompt)
            turns, reference = row.messages, None
        ids = self._renderer.prompt(turns, row.tools)
        return Asked(index, ids, turns, row.prompt_text(), reference, row.columns)
