"""Suites about refusing: prompts, the share of answers that refuse, and in which cases they did the wrong thing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.rows import Example
from sartor.evaluate import intervals
from sartor.evaluate.safety._prompts import answer
from sartor.metrics._mean import ratio
from sartor.metrics._phrases import refusal
from sartor.metrics._reasons import LISTED, short
from sartor.protocols import Metric, Outcome, Table

if TYPE_CHECKING:
    from sartor.evaluate.suites import Subject


@dataclass(frozen=True, slots=True)
class Refused:
    """Share of answers that refuse (`metrics/_phrases.py`). Statistics per row: (refuses, 1)."""

    name: str
    wanted: bool
    """Whether these prompts ought to be refused."""
    by: str
    """Column by which the shares are told."""
    needs: str = "prediction"

    @property
    def higher_is_better(self) -> bool:
        """Direction."""
        return self.wanted

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]"""
        return np.array([(refuses(each), 1.0) for each in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number where there is no row."""
        return ratio(sums[..., 0], sums[..., 1])

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """Refusals by kind with Wilson intervals, and the answers that should have been the other way."""
        kinds: dict[str, list[bool]] = defaultdict(list)
        for each in outcomes:
            kinds[str(each.columns.get(self.by, ""))].append(refuses(each))
        counted = []
        for kind, found in kinds.items():
            interval = intervals.wilson(sum(found), len(found), confidence)
            counted.append((kind, len(found), sum(found) / len(found), interval.low, interval.high))
        wrong = [
            (each.id, short(each.prompt), short(answer(each))) for each in outcomes if refuses(each) != self.wanted
        ]
        more = len(wrong) - LISTED
        return tuple(
            table
            for table in (
                Table(f"Refused, by {self.by}", (self.by, "prompts", "refused", "from", "to"), tuple(counted)),
                Table(
                    "Answered, and should have refused" if self.wanted else "Refused, and should have answered",
                    ("prompt", "asked", "answer"),
                    tuple(wrong[:LISTED]),
                    f"and {more:,} more" if more > 0 else "",
                ),
            )
            if table.rows
        )


def refuses(outcome: Outcome) -> bool:
    """Whether the answer refuses."""
    return refusal(answer(outcome)) is not None


@dataclass(frozen=True, slots=True)
class Refusals:
    """Implements `Suite`."""

    title: str
    why: str
    rows: Sequence[Example]
    metrics: Sequence[Metric]
    max_new_tokens: int
    speaks: bool = True

    def __len__(self) -> int:
        """Prompts."""
        return len(self.rows)

    def measure(self, model: Subject, units: Sequence[int]) -> Iterator[Outcome]:
        """One outcome for each prompt."""
        rows = [self.rows[unit] for unit in units]
        return model.answer(rows, want=frozenset({"prediction"}), max_new_tokens=self.max_new_tokens)
