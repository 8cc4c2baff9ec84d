"""The learning rate of AdamW by the size of the model: smaller models take larger steps.

Rates of papers are for models of billions of parameters. `benchmarks/techniques.py --rates` shows how far they carry: on the
embedded model of 6 million, every method with new weights learnt most at 10 to 30 times the rate of its paper, which is what
size^-1/2 makes of it, as for the model's own weights.
"""

from __future__ import annotations

SMALLEST = 100_000
"""Models of fewer parameters are taken for that large."""


def whole(parameters: int) -> tuple[float, str]:
    """(rate, why) where the model's own weights move."""
    return scaled(parameters, 1e-5, 1e-3)


def scaled(parameters: int, at_7b: float, most: float, source: str = "") -> tuple[float, str]:
    """(rate, why) of what moves at `at_7b` in a model of 7 billion parameters; `most` is the largest rate of any model."""
    size = max(parameters, SMALLEST) / 7e9
    known = f" ({source})" if source else ""
    told = f"{at_7b:.0e}".replace("e-0", "e-")
    return min(at_7b * size**-0.5, most), f"{told} at 7B{known}, scaled by size^-1/2 to {parameters / 1e6:.1f}M"


def low_rank(parameters: int, rank: int) -> tuple[float, str]:
    """(rate, why) of a low-rank update: ten times that of the model's own weights, as Schulman et al. ("LoRA without regret",
    2025) find; a larger rank takes smaller steps.
    """
    rate, why = scaled(parameters, 1e-4, 5e-3, "ten times the rate of full")
    return rate * (16 / rank) ** 0.5, why.replace("at 7B", "at 7B and rank 16").replace(
        "size^-1/2", "size^-1/2 and rank^-1/2"
    )
