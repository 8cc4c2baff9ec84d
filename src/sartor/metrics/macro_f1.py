"""F1 of each label, averaged so that a rare label counts as much as a common one."""

from __future__ import annotations

from sartor.metrics._classes import ByClass, macro
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = ByClass("macro_f1", lambda tp, fp, fn: macro(2 * tp, 2 * tp + fp + fn, tp + fp + fn))
