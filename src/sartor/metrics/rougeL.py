"""ROUGE-L: mean F1 of the longest common subsequence of words shared with the reference."""

# ruff: noqa: N999 - the file name is the metric's name, and the field writes it with a capital
from __future__ import annotations

from sartor.metrics._rouge import Rouge
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Rouge("rougeL")
