"""How often one model's answers are ranked above another's, told only once the ranking is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from sartor.data.annotate.agreement import RESAMPLES, resampled
from sartor.data.annotate.items import Item
from sartor.data.annotate.marks import Sheet
from sartor.data.annotate.resolve import FIRST, TIE, verdicts


@dataclass(frozen=True, slots=True)
class WinRate:
    """Of all comparisons between two models, the share that the first wins; a tie is half a win."""

    model: str
    against: str
    rate: float
    low: float | None
    """Bounds of the percentile bootstrap over prompts; None with fewer than two."""
    high: float | None
    wins: int
    ties: int
    losses: int
    prompts: int

    def json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def win_rates(
    items: Sequence[Item],
    sheets: Mapping[str, Sheet],
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[WinRate]:
    """Every two models that were ranked on the same prompt. Prompts are resampled whole, so annotators may repeat them."""
    found: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0, 0]))
    for item in items:
        for sheet in sheets.values():
            mark = sheet.answers.get(item.key)
            if mark is None or mark.ranking is None:
                continue
            for one, other, verdict in verdicts(mark.ranking):
                a, b = item.answers[one].model, item.answers[other].model
                if a is None or b is None or a == b:
                    continue
                won = 1 if verdict == TIE else 0 if (verdict == FIRST) == (a < b) else 2
                found[min(a, b), max(a, b)][item.key][won] += 1
    models = sorted({name for two in found for name in two})
    two_by_two = [two for two in combinations(models, 2) if two in found]
    return [
        _rate(*two, np.asarray(list(found[two].values()), np.float64), confidence, resamples, seed)
        for two in two_by_two
    ]


def _rate(one: str, other: str, counts: np.ndarray, confidence: float, resamples: int, seed: int) -> WinRate:
    """From counts [prompts, 3] of wins, ties and losses."""
    units = np.stack([counts[:, 0] + counts[:, 1] / 2, counts.sum(axis=1)], axis=1)
    total = units.sum(axis=0)
    low = high = None
    if len(units) > 1:
        drawn = np.concatenate(list(resampled(units, resamples, seed)))
        low, high = (
            float(x) for x in np.quantile(drawn[:, 0] / drawn[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2])
        )
    wins, ties, losses = (int(x) for x in counts.sum(axis=0))
    return WinRate(one, other, float(total[0] / total[1]), low, high, wins, ties, losses, len(units))
