"""Losses of policy gradients against cases worked out by hand, and against their formulas written out token by token."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from sartor import registry
from sartor.objectives._surrogate import clipped, clipped_values, entropy, k3, share
from sartor.tokens.batch import Batch, Rendered, collate


def test_the_surrogate_gains_nothing_beyond_its_clip() -> None:
    """Ratios 1.5, 1.5, 0.5, 0.5 with clip 0.2 and advantages +2, -2, +2, -2: min(3, 2.4), min(-3, -2.4), min(1, 1.6), min(-1, -1.6)."""
    logp = torch.tensor([1.5, 1.5, 0.5, 0.5]).log().requires_grad_(True)
    loss = clipped(logp, torch.zeros(4), torch.tensor([2.0, -2.0, 2.0, -2.0]), 0.2)
    assert loss.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6])
    loss.sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([0.0, 3.0, -1.0, 0.0])


def test_at_the_policy_that_wrote_it_the_gradient_is_that_of_reinforce() -> None:
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    clipped(logp, logp.detach(), torch.tensor([3.0, -0.5]), 0.2).sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([-3.0, 0.5])


def test_values_move_no_further_than_their_clip() -> None:
    """old 1, clip 0.2, return 2: V 1.1 is inside, 0.81 / 2; V 1.5 counts as 1.2, max(0.25, 0.64) / 2; V 3 as 1.2, max(1, 0.64) / 2."""
    value = torch.tensor([1.1, 1.5, 3.0])
    found = clipped_values(value, torch.ones(3), torch.full((3,), 2.0), 0.2)
    assert found.tolist() == pytest.approx([0.405, 0.32, 0.5])


def test_entropy_of_known_distributions() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, -1e9, -1e9]])
    wanted = [math.log(4), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]
    assert entropy(logits).tolist() == pytest.approx(wanted)


def test_k3_is_the_divergence_on_average_and_never_below_zero() -> None:
    """Over all tokens of p, weighted by p: sum p (q / p - 1 - log(q / p)) = KL(p || q)."""
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    found = k3(p.log(), q.log())
    assert bool((found >= 0).all())
    assert float((p * found).sum()) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)
    assert k3(p.log(), p.log()).tolist() == [0, 0, 0]


def batch() -> Batch:
    """Two answers, of two tokens and of one, with what a round puts beside them."""
    rows = [
        Rendered(np.array([5, 6, 7, 8], np.int32), np.array([0, 0, 1, 1], np.float32), 0),
        Rendered(np.array([9, 10], np.int32), np.array([0, 1], np.float32), 1),
    ]
    made = collate(rows)
    columns = {
        "logp": torch.tensor([-5.9, -5.5, -5.8]),
        "reference": torch.tensor([-5.6, -5.9, -5.5]),
        "advantage": torch.tensor([1.0, -2.0, 0.5]),
        "value": torch.tensor([0.1, 0.2, 0.3]),
        "return": torch.tensor([1.0, 0.5, 0.0]),
    }
    return Batch(**{name: getattr(made, name) for name in made.__slots__} | {"columns": columns})


def by_hand(policy: Any, over: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, V] log-probabilities at the three places, by the model's own forward pass of each row, and [N] of the targets."""
    parts = [policy.model(input_ids=torch.tensor([ids])).logits[0] for ids in ([5, 6, 7, 8], [9, 10])]
    places = torch.stack([parts[0][1], parts[0][2], parts[1][0]]).log_softmax(dim=1)
    return places, places[torch.arange(3), torch.tensor([7, 8, 10])]


def moving() -> Any:
    policy = tiny.policy()
    policy.model.requires_grad_(True)
    policy.add_value_head()
    with torch.no_grad():
        policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    policy.eval()
    return policy


def surrogate(logp: torch.Tensor, over: Batch, clip: float) -> list[torch.Tensor]:
    pairs = zip(logp, over.columns["logp"], over.columns["advantage"], strict=True)
    return [
        -torch.minimum((new - old).exp() * gain, (new - old).exp().clamp(1 - clip, 1 + clip) * gain)
        for new, old, gain in pairs
    ]


def test_ppo_is_its_formula() -> None:
    ppo, policy, over = registry.component("objective", "ppo"), moving(), batch()
    every, logp = by_hand(policy, over)
    spread = -(every.exp() * every).sum(dim=1)
    values = policy.values(over)
    bounded = over.columns["value"] + (values - over.columns["value"]).clamp(-0.2, 0.2)
    error = 0.5 * torch.maximum((values - over.columns["return"]) ** 2, (bounded - over.columns["return"]) ** 2)
    for weight in (0.0, 0.01):
        options = ppo.Options(clip=0.1, value=0.3, entropy=weight)
        found = ppo.loss(policy, over, options, reference=None)
        wanted = sum(surrogate(logp, over, 0.1)) + 0.3 * error.sum() - weight * spread.sum()
        assert float(found.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
        assert float(found.weight) == 3
        assert float(found.metrics["value_loss"].detach()) == pytest.approx(float(error.sum().detach()), rel=1e-5)


@pytest.mark.parametrize(("mean", "counts"), [("answer", (0.5, 0.5, 1.0)), ("token", (1.0, 1.0, 1.0))])
def test_grpo_is_its_formula(mean: Any, counts: tuple[float, ...]) -> None:
    grpo, policy, over = registry.component("objective", "grpo"), moving(), batch()
    assert share(over, mean).tolist() == list(counts)
    _, logp = by_hand(policy, over)
    difference = over.columns["reference"] - logp
    each = [
        gain + 0.1 * kl for gain, kl in zip(surrogate(logp, over, 0.2), difference.exp() - 1 - difference, strict=True)
    ]
    wanted = sum(count * one for count, one in zip(counts, each, strict=True))
    found = grpo.loss(policy, over, grpo.Options(kl=0.1, mean=mean), reference=None)
    assert float(found.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    assert float(found.weight) == sum(counts)


@pytest.mark.parametrize("name", ["rloo", "reinforce"])
def test_rloo_and_reinforce_are_the_surrogate_alone(name: str) -> None:
    objective, policy, over = registry.component("objective", name), moving(), batch()
    _, logp = by_hand(policy, over)
    found = objective.loss(policy, over, objective.Options(), reference=None)
    assert float(found.total.detach()) == pytest.approx(float(sum(surrogate(logp, over, 0.2)).detach()), rel=1e-4)
    assert float(found.weight) == 3
    ratio = (logp - over.columns["logp"]).exp().detach()
    assert float(found.metrics["clipped"]) == int(((ratio - 1).abs() > 0.2).sum())
