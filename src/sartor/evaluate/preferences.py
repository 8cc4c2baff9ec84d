"""What a model makes of answers that were compared or judged: the log-probability of each, or its reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sartor.errors import Problem, TokenError
from sartor.evaluate.likelihood import likelihood, measuring
from sartor.protocols import Outcome
from sartor.tokens.batch import Rendered, collate, collate_shared
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    from sartor.data.rows import Row
    from sartor.models.base import ModelPolicy
    from sartor.tokens.render import Renderer

REWARD_TOKENS = 8192
"""Tokens of one forward pass of a reward model."""


def rated(policy: ModelPolicy, renderer: Renderer, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes with ratings, scores and lengths of each row's answers.

    Raises TokenError with every row that the renderer refuses.
    """
    made = renderer.render_many(list(enumerate(rows)))
    problems = [one for one in made if isinstance(one, Problem)]
    if problems:
        raise TokenError(*problems)
    own = [fitting(one.rendered, policy.window) for one in made if not isinstance(one, Problem)]
    flat = [rendered for unit in own for rendered in unit]
    lengths = [rendered.supervised for rendered in flat]
    scores = rewards(policy, flat) if policy.head is not None else -likelihood(policy, flat)[0]
    found, place = [], 0
    for outcome, unit in zip(outcomes, own, strict=True):
        part = slice(place, place := place + len(unit))
        found.append(
            replace(
                outcome,
                ratings=tuple(float(rendered.labels[0]) for rendered in unit),
                scores=tuple(round(float(score), 6) for score in scores[part]),
                lengths=tuple(lengths[part]),
            )
        )
    return found


def fitting(unit: Sequence[Rendered], window: int | None) -> list[Rendered]:
    """Answers to one prompt, whose beginning is left out for all alike where the longest does not fit the model's window."""
    over = 0 if window is None else max(0, max(map(len, unit)) - window)
    return [replace(one, ids=one.ids[over:], weight=one.weight[over:]) for one in unit] if over else list(unit)


def rewards(policy: ModelPolicy, rows: Sequence[Rendered]) -> np.ndarray:
    """[n] float64, what the reward head gives each row."""
    found = np.empty(len(rows))
    bins = pack([len(row) for row in rows], REWARD_TOKENS) if policy.exact.packs else [[n] for n in range(len(rows))]
    with measuring(policy):
        for members in bins:
            together = [rows[member] for member in members]
            batch = collate_shared(together) if policy.exact.shares else collate(together)
            found[members] = policy.score(batch.to(policy.device))[:, 0].double().cpu().numpy()
    return found
