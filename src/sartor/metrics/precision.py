"""Of the rows given a label, the share that deserve it; the plain mean over labels (macro)."""

from __future__ import annotations

from sartor.metrics._classes import ByClass, macro
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = ByClass("precision", lambda tp, fp, fn: macro(tp, tp + fp, tp + fp + fn))
