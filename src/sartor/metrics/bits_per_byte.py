"""Bits the model needs for each UTF-8 byte of the reference; comparable between models with different tokenizers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _BitsPerByte:
    name = "bits_per_byte"
    higher_is_better = False
    needs = "nll"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (bits, bytes)"""
        return np.array([(o.nll / math.log(2), o.bytes) for o in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number without bytes."""
        return ratio(sums[..., 0], sums[..., 1])


METRIC = _BitsPerByte()
