"""A tag for each word: minimise -sum_t w_t log softmax(score_t)[tag_t], divided by sum_t w_t over the optimiser step.

t runs over the first token of every word; the other tokens of a word carry no loss, as in Devlin et al. 2019, section 5.3.
w_t is the weight of its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch

TRAITS = Traits(
    rows=frozenset({"tagged"}),
    reads="input",
    learns="rows",
    metrics=("accuracy",),
    head="tags",
    models=frozenset({"causal", "encoder"}),
)


class Options(BaseOptions):
    """Changes to plain cross entropy."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the probability that goes to all tags alike."""
    focal_gamma: Annotated[float, Field(ge=0)] = 0.0
    """Words that are known well count less, by (1 - p)^gamma; 2 is usual where most words have no tag of interest."""


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Weighted cross entropy of the words' tags."""
    from sartor.objectives._losses import focal_cross_entropy

    tags, scale = of_tokens(batch)
    known = ~tags.isnan()
    scores, target, weight = policy.score(batch)[known], tags[known].long(), scale[known]
    each = focal_cross_entropy(scores, target, smoothing=options.label_smoothing, gamma=options.focal_gamma)
    right = (scores.detach().argmax(dim=1) == target).float()
    return Loss(total=(weight * each).sum(), weight=weight.sum(), metrics={"accuracy": (weight * right).sum()})


def of_tokens(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """([T] tag of each token, NaN where it has none, [T] weight of its row). Raises ValueError where rows share beginnings."""
    import torch

    if any(segment >= 0 for segment in batch.continues):
        raise ValueError("rows whose tokens have tags cannot share their beginnings")
    lengths = torch.tensor(batch.lengths, device=batch.labels.device)
    row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return batch.labels[row, batch.position[0]], batch.scale[row]
