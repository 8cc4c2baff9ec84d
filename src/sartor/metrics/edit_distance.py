"""Edits that make the answers the references, per character of the references: "abd" for "abc" is one in three, 0.333.

The character error rate, and with `unit: word` the word error rate of speech recognition: the sum of Levenshtein distances over
the sum of lengths. 0 is best; above 1 where answers are much too long. A character is a Unicode code point; nothing is normalised.

    metrics: [edit_distance]
    metrics: [{edit_distance: {unit: word}}]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sartor.metrics._answers import right, text
from sartor.metrics._edits import distance
from sartor.metrics._mean import ratio
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

__all__ = ["Options", "metric"]


class Options(Settings):
    """What is counted."""

    unit: Literal["character", "word"] = "character"
    """What an edit changes: a character, or a word (anything between white space)."""


@dataclass(frozen=True, slots=True)
class _EditDistance:
    unit: str
    name: str = "edit_distance"
    higher_is_better: bool = False
    needs: str = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (edits, units of the reference, at least one)"""
        lines = np.zeros((len(outcomes), 2))
        for row, outcome in enumerate(outcomes):
            answer, wanted = self._cut(text(outcome)), self._cut(right(outcome))
            lines[row] = distance(answer, wanted), max(len(wanted), 1)
        return lines

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        return ratio(sums[..., 0], sums[..., 1])

    def _cut(self, content: str) -> Sequence[str]:
        return content if self.unit == "character" else content.split()


def metric(options: Options, root: Path) -> Metric:
    """The metric."""
    return _EditDistance(options.unit)
