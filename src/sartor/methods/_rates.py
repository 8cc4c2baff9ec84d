"""The learning rate of AdamW by the size of the model: smaller models take larger steps."""

from __future__ import annotations

SMALLEST = 100_000
"""Models of fewer parameters are taken for that large."""


def whole(parameters: int) -> tuple[float, str]:
    """(rate, why) where the model's own weights move."""
    rate = 1e-5 * _billions(parameters) ** -0.5
    return min(rate, 1e-3), f"1e-5 at 7B, scaled by size^-1/2 to {parameters / 1e6:.1f}M"


def beside(parameters: int, at_7b: float, source: str = "") -> tuple[float, str]:
    """(rate, why) where new weights move beside the model's own, which is `at_7b` for a model of 7 billion parameters."""
    known = f" ({source})" if source else ""
    return at_7b * _billions(parameters) ** -0.25, f"{at_7b:.0e}".replace(
        "e-0", "e-"
    ) + f" at 7B{known}, scaled by size^-1/4 to {parameters / 1e6:.1f}M"


def low_rank(parameters: int, rank: int, at_7b: float = 2e-4, source: str = "") -> tuple[float, str]:
    """(rate, why) of a low-rank update; a larger rank takes smaller steps."""
    rate, why = beside(parameters, at_7b, source)
    return rate * (16 / rank) ** 0.5, why.replace(" at 7B", " at 7B and rank 16").replace(
        "size^-1/4", "size^-1/4 and rank^-1/2"
    )


def _billions(parameters: int) -> float:
    """Size relative to 7 billion."""
    return max(parameters, SMALLEST) / 7e9
