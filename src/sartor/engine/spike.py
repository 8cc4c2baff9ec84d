"""Tells a loss that stands out from the last ones."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

SIGMAS = 6.0
"""Deviations above the median that make a spike."""
FEWEST = 32
"""Losses that must be there before any is called a spike."""


def spike(loss: float, recent: Sequence[float]) -> str | None:
    """What is unusual about a loss among those before it; None when nothing is.

    The deviation is 1.4826 median |x - median|, which equals sigma for normal losses and which one spike does not move, so
    that none hides the next. Hampel 1974, "The Influence Curve and Its Role in Robust Estimation".
    """
    if len(recent) < FEWEST:
        return None
    middle = statistics.median(recent)
    deviation = 1.4826 * statistics.median(abs(each - middle) for each in recent)
    sigmas = (loss - middle) / max(deviation, 0.01 * abs(middle), 1e-12)
    return f"loss {loss:.4g} is {sigmas:.1f} sigma over the last {len(recent)}" if sigmas > SIGMAS else None
