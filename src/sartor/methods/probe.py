"""Linear probing: the model stays as it is and its head alone learns, on features that are computed once and kept.

Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes"; feature extraction in the words of
Devlin et al. 2019, "BERT", section 5.3. Equal to training the head on the live model whose other dropout is off; an epoch costs the
head alone. Needs an objective with a head: classes, labels, a number, tags or a reward. Saved as a whole model folder.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sartor.errors import ModelError, Problem
from sartor.options import NoOptions

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

Options = NoOptions
SAVES, MERGES = "model", False
LEARNING_RATE = (1e-5, 1e-1)
HEADED = True
"""Whether it is only for models with a head in the place of words."""


def learning_rate(parameters: int, options: NoOptions) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return 3e-3, "a head alone is a small convex problem, which takes large steps whatever the size of the trunk"


def trainable(form: Shape, options: NoOptions) -> int:
    """How many parameters move beside the head: none."""
    return 0


def width(form: Shape, options: NoOptions) -> int:
    """0: no linear layer of the trunk has to remember its input."""
    return 0


def attach(policy: ModelPolicy, options: NoOptions, *, seed: int) -> None:
    """Make the head alone trainable. Raises ModelError M181 for a model with words, M182 for a head that cannot be apart."""
    from sartor.models.features import Features

    if policy.head is None:
        what = "method probe trains a head alone, and this objective learns words"
        raise ModelError(Problem("M181", what, fix="an objective with a head, as classify, or another method"))
    policy.features = Features(policy)
    policy.exact = replace(policy.exact, shares=False)
    for name in policy.head_modules():
        policy.model.get_submodule(name).requires_grad_(True)
