"""exp of the mean negative log-likelihood per token of the reference answer; 1 is certainty. Compare equal tokenizers only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]

LARGEST = 700.0
"""Nats per token beyond which exp would overflow."""


class _Perplexity:
    name = "perplexity"
    higher_is_better = False
    needs = "nll"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (nats, tokens)"""
        return np.array([(o.nll, o.tokens) for o in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number without tokens."""
        nats = ratio(sums[..., 0], sums[..., 1])
        return np.asarray(np.exp(np.minimum(nats, LARGEST)))


METRIC = _Perplexity()
