"""F1 over all rows together; equals accuracy where every prediction is one of the labels."""

from __future__ import annotations

from sartor.metrics._classes import ByClass
from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = ByClass(
    "micro_f1",
    lambda tp, fp, fn: ratio(2 * tp.sum(axis=-1), (2 * tp + fp + fn).sum(axis=-1)),
)
