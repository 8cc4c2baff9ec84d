"""REINFORCE++: minimise -min(r A, clip(r) A), A what is still to come of reward and penalty, whitened over the whole round.

Hu 2025 (arXiv:2501.03262): no values and no groups; the reward stands on the last token, -kl * log(policy / reference) on each
(the estimator k1), and advantages are given mean 0 and deviation 1 over all tokens of the round.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sartor.objectives._on_policy import TRAITS, loss
from sartor.objectives._rounds import RATE, Penalised
from sartor.protocols import Credit

__all__ = ["RATE", "TRAITS", "Options", "loss"]


class Options(Penalised):
    """Settings of REINFORCE++."""

    prompts: Annotated[int, Field(gt=0)] = 64
    """Prompts that are answered in one round; the more, the better the mean that advantages are measured from."""
    discount: Annotated[float, Field(ge=0, le=1)] = 1.0
    """gamma: what a reward counts one token earlier."""
    whiten: bool = True
    """Advantages of a round with mean 0 and deviation 1."""

    @property
    def credit(self) -> Credit:
        return Credit("to_go", discount=self.discount, whiten=self.whiten)
