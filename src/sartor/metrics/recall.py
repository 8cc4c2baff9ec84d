"""Of the rows that deserve a label, the share that got it; the plain mean over labels (macro)."""

from __future__ import annotations

from sartor.metrics._classes import ByClass, macro
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = ByClass("recall", lambda tp, fp, fn: macro(tp, tp + fn, tp + fp + fn))
