"""Distillation: learn the distribution of a teacher at every token of the answer, not only the token that stands there.

Minimise (1 - mix) T^2 D(p^T, q^T) - mix log q(target), summed over scored places; p is the teacher, q the student, both softened by
the temperature T (Hinton et al. 2015, arXiv:1503.02531, section 2). D is KL(p | q), KL(q | p), or the generalised Jensen-Shannon
divergence of Agarwal et al. 2023 (arXiv:2306.13649, equation 1). Teacher and student must have the same vocabulary. Answers that the
teacher itself has written make it sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947).

With `on_policy` it is generalised knowledge distillation (Agarwal et al. 2023, algorithm 1): a share of the rows of every step is
answered by the student as it is then, and T^2 D(p^T, q^T) is minimised on its own tokens; no gradient goes through the sampling.
Departures: the paper draws once for a whole step whether the student answers, here each row is drawn; it divides by the length of
each answer, here by the tokens of the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from sartor.objectives._divergence import Kind
from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch

WRITTEN = 1.0
"""The label of a row whose answer the student has written; rows of the data have none."""


class OnPolicy(BaseOptions):
    """How the student answers prompts itself. A number alone is the share."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the rows whose answer is written by the student, anew at every step; lambda in the paper."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the student's sampling; 1 samples what it is."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 128
    """Longest answer."""

    @model_validator(mode="before")
    @classmethod
    def _widen(cls, value: Any) -> Any:
        """A bare number is the share."""
        return {"share": float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else value


class Options(BaseOptions):
    """Who teaches, and how its distribution is followed."""

    teacher: Annotated[str, Field(min_length=1, examples=["runs/large"])]
    """The model to learn from: a run, a model folder, or a hub id, with the vocabulary of the base."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Softens both distributions: above 1 unlikely tokens count more."""
    divergence: Kind = "forward"
    """forward covers all that the teacher would say, reverse keeps to what it would most likely say, jensen_shannon lies between."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of jensen_shannon: towards 0 it acts like forward, towards 1 like reverse."""
    mix: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the loss that is the rows' own next token, as in sft; answers of the student have none."""
    on_policy: OnPolicy | None = None
    """Let the student answer some of the prompts itself: a share, e.g. 0.5, or its settings; left out, it reads the rows' answers alone."""


TRAITS = Traits(
    rows=frozenset({"example", "text"}),
    roles=frozenset({"teacher"}),
    metrics=("divergence",),
    models=frozenset({"causal", "encoder_decoder"}),
)


def loss(policy: Policy, batch: Batch, options: Options, *, teacher: Policy) -> Loss:
    """Sums over the scored places, divided by their weights."""
    from sartor.objectives._divergence import apart, between

    by = between(options.divergence, options.beta)
    each, logp = apart(policy, teacher, batch, by, options.temperature)
    mix = options.mix * given(batch)
    total = (batch.weight * ((1 - mix) * options.temperature**2 * each - mix * logp)).sum()
    return Loss(total, batch.weight.sum(), {"divergence": (batch.weight * each).sum().detach()})


def given(batch: Batch) -> torch.Tensor:
    """[N] fp32, 1 where a place belongs to an answer of the data, 0 where the student has written it."""
    if not batch.labels.shape[1]:
        return batch.weight.new_ones(len(batch.weight))
    return (batch.labels[batch.row, 0] != WRITTEN).to(batch.weight.dtype)
