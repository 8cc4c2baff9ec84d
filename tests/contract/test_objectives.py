"""Every objective: how rows are packed and cut into micro-batches changes nothing, numbers are finite, and it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch

from sartor import registry
from sartor.models.policy import CausalPolicy
from sartor.tokens.batch import Batch, Rendered, collate
from sartor.tokens.pack import pack

NAMES = registry.names("objective")


def documents(count: int) -> list[Rendered]:
    """Rows whose every token is learnt."""
    return [Rendered(row.ids, np.ones(len(row), np.float32), row.row) for row in tiny.rows(count)]


ROWS: dict[str, Callable[[int], list[Rendered]]] = {"example": tiny.rows, "text": documents}
"""Kind of row -> rows of it. A new kind of row needs an entry."""


@pytest.fixture(params=NAMES)
def objective(request: pytest.FixtureRequest) -> ModuleType:
    return registry.component("objective", request.param)


def rows_for(objective: ModuleType, count: int) -> list[Rendered]:
    return [row for kind in sorted(objective.TRAITS.rows) for row in ROWS[kind](count)]


def moving(name: str = "llama") -> CausalPolicy:
    policy = tiny.policy(name)
    policy.model.requires_grad_(True)
    policy.eval()
    return policy


def gradient(
    objective: ModuleType, policy: CausalPolicy, batches: Sequence[Batch]
) -> tuple[float, float, dict[str, torch.Tensor]]:
    """(sum of totals, sum of weights, gradient of their ratio), as the engine takes them."""
    policy.model.zero_grad()
    total = weight = 0.0
    for batch in batches:
        loss = objective.loss(policy, batch, objective.Options())
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
    return total, weight, {name: p.grad / weight for name, p in policy.trainable().items() if p.grad is not None}


def cuts(rows: list[Rendered]) -> dict[str, list[Batch]]:
    """The same rows in one batch, row by row, backwards, and packed into bins of two sizes."""
    bins = {size: pack([len(row) for row in rows], size) for size in (30, 64)}
    return {
        "one by one": [collate([row]) for row in rows],
        "backwards": [collate(rows[::-1])],
        **{f"bins of {size}": [collate([rows[i] for i in each]) for each in made] for size, made in bins.items()},
    }


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_the_gradient_does_not_depend_on_packing_or_micro_batches(objective: ModuleType, name: str) -> None:
    rows, policy = rows_for(objective, 11), moving(name)
    total, weight, expected = gradient(objective, policy, [collate(rows)])
    assert expected
    for label, batches in cuts(rows).items():
        other_total, other_weight, found = gradient(objective, policy, batches)
        assert other_total == pytest.approx(total, rel=1e-5), label
        assert other_weight == pytest.approx(weight, rel=1e-6), label
        assert found.keys() == expected.keys()
        for key, wanted in expected.items():
            scale = float(wanted.abs().max()) + 1e-12
            assert float((found[key] - wanted).abs().max()) < 1e-4 * scale + 1e-8, (label, key)


def test_total_is_a_sum_and_weight_its_divisor(objective: ModuleType) -> None:
    """Twice the rows: twice the sums, the same mean."""
    rows, policy = rows_for(objective, 6), moving()
    once, twice = (objective.loss(policy, collate(rows * times), objective.Options()) for times in (1, 2))
    assert once.total.shape == once.weight.shape == ()
    assert once.total.dtype == torch.float32
    assert float(twice.total.detach()) == pytest.approx(2 * float(once.total.detach()), rel=1e-5)
    assert float(twice.weight) == pytest.approx(2 * float(once.weight), rel=1e-6)
    assert not once.weight.requires_grad


def test_it_is_finite_where_the_model_is_sure_and_wrong(objective: ModuleType) -> None:
    policy = moving()
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.mul_(30)
    total, weight, found = gradient(objective, policy, [collate(rows_for(objective, 6))])
    assert np.isfinite([total, weight]).all()
    assert total / weight > 10
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())


def test_tokens_without_weight_pull_nothing(objective: ModuleType) -> None:
    """Only what is scored is learnt: another last token in a row whose last weight is zero changes no gradient."""
    policy = moving()
    gradients = []
    for last in (7, 8):
        ids = np.array([5, 9, 11, 13, last], np.int32)
        row = Rendered(ids, np.array([0, 1, 1, 1, 0], np.float32), 0)
        gradients.append(gradient(objective, policy, [collate([row])]))
    assert gradients[0][:2] == gradients[1][:2]
    embedding = next(key for key in gradients[0][2] if "embed" in key)
    assert torch.equal(gradients[0][2][embedding][9], gradients[1][2][embedding][9])


def test_it_falls_on_a_toy_task(objective: ModuleType) -> None:
    policy, batch = moving(), collate(rows_for(objective, 8))
    updater = tiny.updater(policy, rate=1e-2)
    losses = []
    for _ in range(40):
        loss = objective.loss(policy, batch, objective.Options())
        loss.total.backward()
        updater.weights.absorb()
        updater.apply(updater.norm(loss.weight.detach()), 1.0)
        losses.append(float((loss.total / loss.weight).detach()))
    assert losses[-1] < 0.5 * losses[0]
