"""exp of the mean negative log-likelihood per UTF-8 byte of the reference answer: 1 is certainty, 256 a guess among all bytes.

2 to the power of `bits_per_byte`; comparable between models with different tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.metrics.perplexity import LARGEST
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _BytePerplexity:
    name = "byte_perplexity"
    higher_is_better = False
    needs = "nll"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (nats, bytes)"""
        return np.array([(o.nll, o.bytes) for o in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number without bytes."""
        return np.asarray(np.exp(np.minimum(ratio(sums[..., 0], sums[..., 1]), LARGEST)))


METRIC = _BytePerplexity()
