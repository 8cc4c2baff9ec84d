"""REINFORCE with the other answers as the baseline: minimise -(R_i - mean of the others' R) log p(answer i).

RLOO, Ahmadian et al. 2024 (arXiv:2402.14740), equation 8: R = reward - kl * log(policy / reference) of the whole answer, k
answers to each prompt. With the ratio clipped as in PPO, answers can be learnt from more than once; the first time the gradient
is the paper's, up to the number of tokens that it is divided by.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sartor.objectives._on_policy import TRAITS, loss
from sartor.objectives._rounds import RATE, Penalised
from sartor.protocols import Credit

__all__ = ["RATE", "TRAITS", "Options", "loss"]


class Options(Penalised):
    """Settings of RLOO."""

    samples: Annotated[int, Field(gt=1)] = 4
    """Answers to each prompt; each is compared with the mean of the others."""
    whiten: bool = False
    """Advantages of a round with mean 0 and deviation 1."""

    @property
    def credit(self) -> Credit:
        return Credit("leave_one_out", whiten=self.whiten)
