"""F1 over the fields of JSON answers: {"a": 1, "b": 2} for {"a": 1, "b": 3} has one of two fields right, so 0.5.

Fields are the leaves, named by their path (a.b, items[0]); counts are summed over all rows. An answer that is no JSON has
no fields right; a reference that is no JSON is one field, the whole text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import right, text
from sartor.metrics._json import INVALID, fields, parse
from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


def _fields(content: str) -> Counter[tuple[str, str]]:
    value = parse(content)
    return Counter([("", content)] if value is INVALID else fields(value))


class _FieldF1:
    name = "field_f1"
    higher_is_better = True
    needs = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (twice the fields right, fields of the answer and of the reference)"""
        lines = np.zeros((len(outcomes), 2))
        for row, outcome in enumerate(outcomes):
            answer, wanted = _fields(text(outcome)), _fields(right(outcome))
            lines[row] = (2 * (answer & wanted).total(), answer.total() + wanted.total())
        return lines

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        return ratio(sums[..., 0], sums[..., 1])


METRIC = _FieldF1()
