"""Translation edit rate, from 0, exactly as sacrebleu computes it (tercom tokens, any case; Snover et al. 2006, Post 2018).

100 times the edits (insertions, deletions, other words, moved runs of words) that make the answers the references, per word of
the references: "b c a" for "a b c" is one move in three words, 33.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import right, text
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _Ter:
    name = "ter"
    higher_is_better = False
    needs = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (edits, words of the reference)"""
        from sacrebleu.metrics.ter import TER

        scorer = TER()
        scores = [scorer.sentence_score(text(outcome), [right(outcome)]) for outcome in outcomes]
        return np.array([(score.num_edits, score.ref_length) for score in scores], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; where the references have no word, 100 for any edit and 0 for none, as in sacrebleu."""
        edits, words = sums[..., 0], sums[..., 1]
        rate: np.ndarray = np.divide(edits, words, out=np.asarray(edits > 0, dtype=np.float64), where=words > 0)
        return 100 * rate


METRIC = _Ter()
