"""Share of answers equal to the reference but for case, punctuation and articles: "the Eiffel tower." for "Eiffel Tower" counts 1."""

from __future__ import annotations

from sartor.metrics._answers import right, text
from sartor.metrics._mean import Mean
from sartor.metrics._words import normalised
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Mean("normalised_match", lambda outcome: float(normalised(text(outcome)) == normalised(right(outcome))))
