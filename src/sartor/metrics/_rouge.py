"""ROUGE F1 through rouge-score (Lin 2004), with words of every script where its own tokenizer knows only a-z and 0-9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sartor.metrics._answers import right, text
from sartor.metrics._mean import ratio
from sartor.metrics._words import words
from sartor.protocols import Outcome


class _Tokenizer:
    def tokenize(self, content: str) -> list[str]:
        return words(content)


@dataclass(frozen=True, slots=True)
class Rouge:
    """Mean of the F1 of one kind of ROUGE. Statistics per row: (F1, 1)."""

    name: str
    higher_is_better: bool = True
    needs: str = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]; an answer equal to the reference scores 1 even where it has too few words for an n-gram."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self.name], tokenizer=_Tokenizer())
        lines = np.ones((len(outcomes), 2))
        for row, outcome in enumerate(outcomes):
            if text(outcome) != right(outcome):
                lines[row, 0] = scorer.score(right(outcome), text(outcome))[self.name].fmeasure
        return lines

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        return ratio(sums[..., 0], sums[..., 1])
