"""Mean F1 of the words shared with the reference (SQuAD): "in Paris" for "Paris, France" has 1 of 2 and 1 of 2, so 0.5."""

from __future__ import annotations

from collections import Counter

from sartor.metrics._answers import right, text
from sartor.metrics._mean import Mean
from sartor.metrics._words import normalised
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


def _score(outcome: Outcome) -> float:
    guess, truth = normalised(text(outcome)).split(), normalised(right(outcome)).split()
    if not guess or not truth:
        return float(guess == truth)
    shared = (Counter(guess) & Counter(truth)).total()
    return 2 * shared / (len(guess) + len(truth))


METRIC = Mean("token_f1", _score)
