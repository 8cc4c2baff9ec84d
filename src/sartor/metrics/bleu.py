"""Corpus BLEU, 0 to 100, exactly as sacrebleu computes it (13a tokens, exponential smoothing; Papineni et al. 2002, Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import right, text
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _Bleu:
    name = "bleu"
    higher_is_better = True
    needs = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 10] (length of the answer, of the reference, 4 matched and 4 possible n-gram counts)"""
        from sacrebleu.metrics.bleu import BLEU

        scorer = BLEU(effective_order=True)
        scores = (scorer.sentence_score(text(outcome), [right(outcome)]) for outcome in outcomes)
        lines = [(score.sys_len, score.ref_len, *score.counts, *score.totals) for score in scores]
        return np.array(lines, dtype=np.float64).reshape(-1, 10)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 10] -> [...]"""
        from sacrebleu.metrics.bleu import BLEU

        lines = sums.reshape(-1, 10).astype(np.int64).tolist()
        scores = [BLEU.compute_bleu(line[2:6], line[6:], line[0], line[1], smooth_method="exp").score for line in lines]
        return np.array(scores, dtype=np.float64).reshape(sums.shape[:-1])


METRIC = _Bleu()
