"""From what a contender's process found to rates, medians and ratios. No imports but the standard library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

OURS = "sartor"
LOSS_TOLERANCE = 1e-4
"""Largest difference of the first step's fp32 loss, relative to the smallest one, at which all did the same work."""
COMPARED = (
    "tokens_per_second",
    "supervised_per_second",
    "tokens_per_cpu_second",
    "mfu",
    "memory_bytes",
    "first_step_seconds",
    "warm_seconds",
)

Figures = Mapping[str, float]


def figures(found: Mapping[str, Any], *, tokens: int, supervised: int, flops: float) -> dict[str, float]:
    """The figures of one process. `tokens`, `supervised` and `flops` are those of the measured steps together.

    Tokens per CPU second count the time of every thread: on a machine that others use they say more than the clock does.
    The matrix peak is the mean of the measurements before and after, each in the type that is faster.
    """
    seconds = sum(found["step_seconds"])
    peak = fmean(max(found[when].values()) for when in ("peak_before", "peak_after"))
    return {
        "tokens_per_second": tokens / seconds,
        "supervised_per_second": supervised / seconds,
        "tokens_per_cpu_second": tokens / found["cpu_seconds"],
        "mfu": flops / seconds / peak,
        "matrix_peak": peak,
        "memory_bytes": found["memory_bytes"],
        "first_step_seconds": found["first_step_seconds"],
        "warm_seconds": found["warm_seconds"],
        "last_loss": found["losses"][-1],
    }


def medians(rounds: Sequence[Figures | None]) -> dict[str, float] | None:
    """The median of each figure over the rounds that went well; None where none did."""
    good = [each for each in rounds if each is not None]
    return {key: median(each[key] for each in good) for key in good[0]} if good else None


def ratios(rounds: Mapping[str, Sequence[Figures | None]]) -> dict[str, dict[str, float]]:
    """`sartor/peer` -> figure -> the median over rounds of ours divided by the peer's in the same round."""
    made = {}
    for peer in rounds:
        if peer == OURS:
            continue
        pairs = [
            (ours, theirs)
            for ours, theirs in zip(rounds.get(OURS, ()), rounds[peer], strict=False)
            if ours is not None and theirs is not None
        ]
        if pairs:
            made[f"{OURS}/{peer}"] = {
                key: median(ours[key] / theirs[key] for ours, theirs in pairs) for key in COMPARED
            }
    return made


def spread(losses: Mapping[str, float]) -> float:
    """(largest - smallest) / smallest."""
    return (max(losses.values()) - min(losses.values())) / min(losses.values())
