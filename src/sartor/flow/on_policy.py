"""Wires a student's own answers into distillation: the source's rewriting, validation on fresh answers, and what is refused.

What a recipe needs is asked without torch; models are opened late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sartor.errors import Problem, RecipeError, RunError
from sartor.objectives import distill

if TYPE_CHECKING:
    import numpy as np

    from sartor.advise.memory import Writing
    from sartor.engine.parallel.world import World
    from sartor.engine.precision import Masters, Objective
    from sartor.flow.handover import Material
    from sartor.flow.prepare import Emit
    from sartor.models.base import ModelPolicy
    from sartor.recipe.load import Loaded
    from sartor.recipe.schema import Component
    from sartor.rollouts.student import Student
    from sartor.tokens.source import Seat

AT_ONCE = 64
"""Answers written together."""


def of(objective: Component) -> distill.OnPolicy | None:
    """How the student answers; None where it does not."""
    return objective.options.on_policy if isinstance(objective.options, distill.Options) else None


def written(objective: Component) -> int:
    """Tokens of the longest answer that the student writes; 0 where it writes none."""
    own = of(objective)
    return 0 if own is None else own.max_new_tokens


def writing(objective: Component, lengths: np.ndarray, max_tokens: int) -> Writing | None:
    """How the student's answers are written, given the tokens of every row; None where it writes none."""
    from sartor.advise.memory import Writing

    own = of(objective)
    return None if own is None else Writing(AT_ONCE, int(lengths.max()), min(own.max_new_tokens, max_tokens))


def require(loaded: Loaded, objective: Component, kind: str) -> None:
    """Raises RecipeError R106 for rows that ask nothing."""
    if of(objective) is not None and kind != "example":
        key = f"train.objective.{objective.name}.on_policy"
        what = f"the student answers prompts, and {kind} rows have none"
        raise RecipeError(loaded.problem("R106", key, what, fix="rows with prompts and answers, or leave it out"))


def require_whole(objective: Component, parallel: str) -> None:
    """Raises RunError P133 where no process has the whole student, which writes its answers."""
    if of(objective) is not None and parallel == "fsdp2":
        what = "a student that answers itself must be whole on every process, and fsdp2 gives each a part"
        raise RunError(Problem("P133", what, fix="train.parallel: ddp, or one process"))


def student_of(prepared: Material, policy: ModelPolicy, seat: Seat, world: World, emit: Emit) -> Student | None:
    """What rewrites the rows of a step; None where the recipe does not want it."""
    from sartor.generate.local import LocalGenerator
    from sartor.rollouts.prompts import Prompts
    from sartor.rollouts.student import Plan, Student

    own = of(prepared.settings.objective)
    if own is None:
        return None
    renderer, dataset = prepared.renderer, prepared.rows.dataset
    pad = renderer.vocabulary.pad_id or 0
    plan = Plan(
        share=own.share,
        temperature=own.temperature,
        max_new_tokens=own.max_new_tokens,
        most_tokens=prepared.max_tokens,
        seed=prepared.loaded.recipe.seed,
        label=distill.WRITTEN,
    )
    return Student(
        Prompts(dataset, range(len(dataset)), renderer),
        LocalGenerator(policy, renderer.stop_ids, pad, renderer.text, AT_ONCE),
        plan,
        seat=seat,
        gather=world.gather,
        emit=emit,
    )


@dataclass(frozen=True, slots=True)
class Fresh:
    """Validation: how far student and teacher are apart on the student's likeliest answers to fixed prompts."""

    student: Student
    rows: Sequence[int]
    """Indices of the prompts in the data set"""
    policy: ModelPolicy
    weights: Masters
    objective: Objective
    micro_tokens: int | None
    seat: Seat
    share: bool
    held_out: Callable[[], dict[str, float]]
    """What is measured on the rows' own answers"""

    def __call__(self) -> dict[str, float]:
        """loss and divergence, means over tokens of the answers; tokens of an answer; perplexity of the rows' own answers."""
        from sartor.engine.validation import mean_loss
        from sartor.generate.local import GREEDY
        from sartor.tokens.source import seated

        asked = [self.student.prompts[row] for row in self.rows]
        answers = self.student.answers(asked, GREEDY, 0)
        units = [[self.student.rendered(each, ids)] for each, ids in zip(asked, answers, strict=True) if len(ids)]
        if not units:
            return self.held_out()
        batches = seated(units, self.micro_tokens, self.seat, share=self.share)
        found = mean_loss(self.policy, batches, self.weights, objective=self.objective, metrics=distill.TRAITS.metrics)
        tokens = sum(map(len, answers)) / len(units)
        return self.held_out() | found | {"tokens": tokens}
