"""Distillation: learn the distribution of a teacher at every token of the answer, not only the token that stands there.

Minimise (1 - mix) T^2 D(p^T, q^T) - mix log q(target), summed over scored places; p is the teacher, q the student, both softened by
the temperature T (Hinton et al. 2015, arXiv:1503.02531, section 2). D is KL(p | q), KL(q | p), or the generalised Jensen-Shannon
divergence of Agarwal et al. 2023 (arXiv:2306.13649, equation 1). Teacher and student must have the same vocabulary. Answers that the
teacher itself has written make it sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.objectives._divergence import Kind
from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch


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
    """Share of the loss that is the rows' own next token, as in sft."""


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
    divergence = (batch.weight * each).sum()
    likelihood = -(batch.weight * logp).sum()
    total = (1 - options.mix) * options.temperature**2 * divergence + options.mix * likelihood
    return Loss(total, batch.weight.sum(), {"divergence": divergence.detach()})
