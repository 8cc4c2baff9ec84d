"""A reward model from comparisons: minimise -sum_i log(exp s_i / sum_{j not better than i} exp s_j), s the score of an answer.

Plackett 1975 and Luce 1959 for k answers in order; equally good ones stand in each other's sums (Breslow 1974). For a pair it is
Bradley-Terry, -log sigmoid(s_w - s_l), as in Ouyang et al. 2022 (arXiv:2203.02155), equation 1, and with the pair's margin m
-log sigmoid(s_w - s_l - m) of Touvron et al. 2023 (Llama 2, arXiv:2307.09288), equation 2. `pairs` takes a ranking as the mean over
its pairs, as equation 1 of Ouyang et al. does. `center` adds (s_w + s_l)^2 (Eisenstein et al. 2023, arXiv:2312.09244, section
2), for a ranking twice the mean score in place of the sum, so that scores stay near 0: their differences alone mean something.

A score is read at the last token of an answer, the end of its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sartor.objectives._answers import NotNegative, Pairs, pairs
from sartor.options import Options as Settings
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch


class Options(Settings):
    """Settings of reward."""

    rankings: Literal["order", "pairs"] = "order"
    """order: how likely the whole order is (Plackett-Luce); pairs: the mean over its pairs."""
    margin: NotNegative = 1.0
    """What a row's own margin is multiplied with; 0 leaves margins out."""
    center: NotNegative = 0.0
    """Weight of keeping scores near 0; 0.01 is usual."""


TRAITS = Traits(
    rows=frozenset({"preference", "ranking"}),
    reads="candidates",
    learns="rows",
    metrics=("accuracy", "margin", "chosen_reward", "rejected_reward"),
    head="reward",
)


def orders(score: torch.Tensor, label: torch.Tensor, together: torch.Tensor) -> torch.Tensor:
    """[R] log sum_j exp s_j - s_i over the answers j of the same prompt that are not better than i.

    Args:
        score: [R] s.
        label: [R] how good each answer is.
        together: [R, R] whether two answers are to one prompt.
    """
    left = together & (label[None, :] <= label[:, None])
    return score[None, :].masked_fill(~left, float("-inf")).logsumexp(dim=1) - score


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Sum over prompts, each counting once."""
    from torch.nn.functional import logsigmoid

    score, label = policy.score(batch)[:, 0].float(), batch.labels[:, 0]
    together = batch.group[:, None] == batch.group[None, :]
    counts = batch.scale / together.sum(dim=1)
    made, asked = pairs(batch), _margins(batch, options.margin)
    if options.rankings == "pairs":
        total = made.mean(-logsigmoid(score[made.better] - score[made.worse] - asked[made.better]))
    else:
        total = (batch.scale * orders(score - asked * label, label, together)).sum()
    if options.center:
        mean = (together * score[None, :]).sum(dim=1) / together.sum(dim=1)
        total = total + options.center * (counts * (2 * mean).square()).sum()
    return Loss(total, counts.sum(), _told(made, score.detach()))


def _margins(batch: Batch, factor: float) -> torch.Tensor:
    """[R] the margin of the pair each answer belongs to; 0 where there is none."""
    if batch.labels.shape[1] < 2:
        return batch.labels.new_zeros(len(batch.rows))
    return factor * batch.labels[:, 1].nan_to_num(0.0)


def _told(made: Pairs, score: torch.Tensor) -> dict[str, torch.Tensor]:
    better, worse = score[made.better], score[made.worse]
    return {
        "accuracy": made.mean((better > worse).to(score.dtype)),
        "margin": made.mean(better - worse),
        "chosen_reward": made.mean(better),
        "rejected_reward": made.mean(worse),
    }
