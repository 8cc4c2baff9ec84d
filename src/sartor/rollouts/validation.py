"""What the policy is worth on fixed prompts: the mean reward of its likeliest answers, and how far it is from the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.errors import InputError, Problem
from sartor.generate.sampling import Sampling
from sartor.models.still import Still
from sartor.rollouts.prompts import Answer
from sartor.rollouts.together import COMPANY, Company
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    from sartor.generate.local import LocalGenerator
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Policy
    from sartor.rollouts.prompts import Asked
    from sartor.rollouts.rewards import Reward

LOGITS = 1 << 24
"""Numbers of one model's logits that are held at once: 64 MiB."""


def answered(
    generator: LocalGenerator,
    asked: Sequence[Asked],
    *,
    max_new_tokens: int,
    most_tokens: int,
    company: Company = COMPANY,
) -> list[Answer]:
    """The likeliest answer to each prompt; to one that leaves no room, none.

    Args:
        max_new_tokens: longest answer.
        most_tokens: prompt and answer together, at most.
        company: the ranks that write them together; all of them get all.
    """
    limits = [max(0, min(max_new_tokens, most_tokens - len(each.ids))) for each in asked]
    return [answer for _, answer in company.written(generator, asked, limits, sampling=Sampling())]


def validate(
    policy: ModelPolicy,
    reference: Policy,
    answers: Sequence[Answer],
    reward: Reward,
    *,
    unfinished: float,
    company: Company = COMPANY,
) -> dict[str, float]:
    """Means over answers: reward, kl (nats an answer), tokens, share unfinished, and loss, which is minus the reward.

    Answers that the reward cannot judge are left out of it and told as `unscored`. Raises InputError N423 where that is all.
    """
    stopped = np.array([answer.stopped for answer in answers], np.bool_)
    scores = reward.score(answers) - unfinished * ~stopped
    known = np.isfinite(scores)
    if not known.any():
        fix = "see what the reward gives for answers like these; prompts need room for an answer"
        raise InputError(Problem("N423", "no answer to a validation prompt has a reward", fix=fix))
    value = float(scores[known].mean())
    own = [_rendered(answer, place) for place, answer in enumerate(answers) if company.mine(place)]
    drift = sum(company.ranks.each(lambda: divergence(policy, reference, own)))
    return {
        "loss": -value,
        "reward": value,
        "kl": drift / len(answers),
        "tokens": float(np.mean([len(answer.ids) for answer in answers])),
        "unfinished": float((~stopped).mean()),
        "unscored": float((~known).mean()),
    }


def divergence(policy: ModelPolicy, reference: Policy, rows: Sequence[Rendered]) -> float:
    """Sum over all scored places of KL(policy || reference) between their distributions of the next token, in nats."""
    still, total = Still(policy), 0.0
    room = max(1, LOGITS // policy.vocabulary) if policy.exact.packs else 1
    for members in pack([len(row) for row in rows], room):
        batch = collate([rows[index] for index in members]).to(policy.device)
        own, other = (each.logits(batch).log_softmax(dim=1) for each in (still, reference))
        total += float((own.exp() * (own - other)).sum(dtype=torch.float64))
    return total


def _rendered(answer: Answer, place: int) -> Rendered:
    ids = np.concatenate([answer.asked.ids, answer.ids]).astype(np.int32)
    weight = np.ones(len(ids), np.float32)
    weight[: len(answer.asked.ids)] = 0
    return Rendered(ids, weight, place)
