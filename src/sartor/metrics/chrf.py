"""Corpus chrF, 0 to 100: F2 of character 1- to 6-grams, as sacrebleu computes it (Popović 2015); for any script.

The n-grams are sacrebleu's; their sums are combined here because its public score does not give them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import right, text
from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]

ORDERS = 6
BETA = 2


class _Chrf:
    name = "chrf"
    higher_is_better = True
    needs = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 18] (n-grams of the answer, of the reference, shared) for each order"""
        from sacrebleu.metrics.helpers import extract_all_char_ngrams

        counts = np.zeros((len(outcomes), ORDERS, 3))
        for row, outcome in enumerate(outcomes):
            guesses = extract_all_char_ngrams(text(outcome), ORDERS, False)
            truths = extract_all_char_ngrams(right(outcome), ORDERS, False)
            for order, (guess, truth) in enumerate(zip(guesses, truths, strict=True)):
                shared = sum(min(count, truth[gram]) for gram, count in guess.items() if gram in truth)
                counts[row, order] = (guess.total() if truth else 0, truth.total(), shared)
        return counts.reshape(len(outcomes), 3 * ORDERS)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 18] -> [...]"""
        counts = sums.reshape(*sums.shape[:-1], ORDERS, 3)
        guess, truth, shared = counts[..., 0], counts[..., 1], counts[..., 2]
        orders = (guess > 0) & (truth > 0)
        used = orders.sum(axis=-1)
        precision = ratio(np.where(orders, ratio(shared, guess, empty=0.0), 0.0).sum(axis=-1), used, empty=0.0)
        recall = ratio(np.where(orders, ratio(shared, truth, empty=0.0), 0.0).sum(axis=-1), used, empty=0.0)
        return 100 * ratio((1 + BETA**2) * precision * recall, BETA**2 * precision + recall, empty=0.0)


METRIC = _Chrf()
