"""Every objective: how rows are packed and cut into micro-batches changes nothing, numbers are finite, and it learns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from contract.cases import Case

from sartor import registry
from sartor.tokens.batch import Batch, Rendered, collate

OBJECTIVES = [registry.component("objective", name) for name in registry.names("objective")]
CASES = {
    f"{objective.__name__.rpartition('.')[2]}-{kind}": Case(objective, kind)
    for objective in OBJECTIVES
    for kind in sorted(objective.TRAITS.rows)
}
MODELS = [(key, name) for key, case in CASES.items() for name in case.models()]
Gradients = dict[str, torch.Tensor]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def gradient(
    case: Case, policy: Any, batches: Sequence[Batch], roles: Mapping[str, Any]
) -> tuple[float, float, dict[str, float], Gradients]:
    """(sum of totals, sum of weights, sums of metrics, gradient of the mean), as the engine takes them."""
    for parameter in policy.trainable().values():
        parameter.grad = None
    total = weight = 0.0
    metrics = dict.fromkeys(case.traits.metrics, 0.0)
    for batch in batches:
        loss = case.objective.loss(policy, batch, case.options(), **roles)
        assert loss.metrics.keys() == metrics.keys()
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
        metrics = {name: metrics[name] + float(value.detach()) for name, value in loss.metrics.items()}
    found = {name: p.grad / weight for name, p in policy.trainable().items() if p.grad is not None}
    return total, weight, metrics, {name: tensor.clone() for name, tensor in found.items()}


def assert_same(found: Gradients, expected: Gradients, label: str) -> None:
    assert found.keys() == expected.keys()
    for key, wanted in expected.items():
        scale = float(wanted.abs().max()) + 1e-12
        assert float((found[key] - wanted).abs().max()) < 1e-4 * scale + 1e-8, (label, key)


@pytest.mark.parametrize(("key", "name"), MODELS)
def test_the_gradient_does_not_depend_on_packing_or_micro_batches(key: str, name: str) -> None:
    case = CASES[key]
    units, policy, roles = case.units(11), case.policy(name), case.roles(name)
    total, weight, metrics, expected = gradient(case, policy, [case.batch(units)], roles)
    assert expected
    for label, batches in case.cuts(units).items():
        other_total, other_weight, other_metrics, found = gradient(case, policy, batches, roles)
        assert other_total == pytest.approx(total, rel=1e-5), label
        assert other_weight == pytest.approx(weight, rel=1e-6), label
        assert other_metrics == pytest.approx(metrics, rel=1e-4, abs=1e-5), label
        assert_same(found, expected, label)


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.traits.together])
def test_a_prompt_that_is_computed_once_for_its_answers_gives_the_same_gradient(key: str) -> None:
    case = CASES[key]
    units, policy, roles = case.units(7), case.policy("llama"), case.roles("llama")
    shared = case.batch(units, share=True)
    alone = case.batch(units)
    if case.kind != "judged":
        assert shared.tokens < alone.tokens
    total, weight, metrics, expected = gradient(case, policy, [alone], roles)
    other_total, other_weight, other_metrics, found = gradient(case, policy, [shared], roles)
    assert (other_total, other_weight) == pytest.approx((total, weight), rel=1e-5)
    assert other_metrics == pytest.approx(metrics, rel=1e-4, abs=1e-5)
    assert_same(found, expected, "shared")


def test_total_is_a_sum_and_weight_its_divisor(case: Case) -> None:
    """Twice the rows: twice the sums, the same mean."""
    name = case.models()[0]
    units, policy, roles = case.units(6), case.policy(name), case.roles(name)
    once, twice = (case.objective.loss(policy, case.batch(units * times), case.options(), **roles) for times in (1, 2))
    assert once.total.shape == once.weight.shape == ()
    assert once.total.dtype == torch.float32
    assert float(twice.total.detach()) == pytest.approx(2 * float(once.total.detach()), rel=1e-5)
    assert float(twice.weight) == pytest.approx(2 * float(once.weight), rel=1e-6)
    assert not once.weight.requires_grad


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.traits.reads != "prompt"])
def test_a_row_of_twice_the_weight_counts_like_two(key: str) -> None:
    case = CASES[key]
    name = case.models()[0]
    (first, *rest), policy, roles = case.units(5), case.policy(name), case.roles(name)
    heavy = [replace(row, weight=2 * row.weight) for row in first]
    one = gradient(case, policy, [case.batch([heavy, *rest])], roles)
    two = gradient(case, policy, [case.batch([first, first, *rest])], roles)
    assert one[:2] == pytest.approx(two[:2], rel=1e-5)
    assert_same(one[3], two[3], "twice")


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.traits.reads != "prompt"])
def test_it_is_finite_where_the_model_is_sure_and_wrong(key: str) -> None:
    """Not where the model has written the answers itself: it is then never far from what it was."""
    case = CASES[key]
    name = case.models()[0]
    policy, roles = case.policy(name), case.roles(name)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.mul_(30)
    total, weight, metrics, found = gradient(case, policy, [case.batch(case.units(6))], roles)
    assert np.isfinite([total, weight, *metrics.values()]).all()
    if case.traits.learns == "tokens":
        assert total / weight > 10
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())


def test_rows_that_count_nothing_pull_nothing(case: Case) -> None:
    """Ranks that hold shards take an idle micro-batch where another one has more: its passes run, and change nothing."""
    name = case.models()[0]
    policy, roles = case.policy(name), case.roles(name)
    idle = [[replace(row, weight=np.zeros_like(row.weight)) for row in unit] for unit in case.units(2)]
    total, weight, _, found = gradient(case, policy, [case.batch(idle)], roles)
    assert (total, weight) == (0.0, 0.0)
    assert not any(bool(tensor.nan_to_num().any()) for tensor in found.values())


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if case.traits.learns == "tokens"])
def test_tokens_without_weight_pull_nothing(key: str) -> None:
    """Only what is scored is learnt: another last token in a row whose last weight is zero changes no gradient."""
    case = CASES[key]
    policy = case.policy("llama")
    gradients = []
    for last in (7, 8):
        ids = np.array([5, 9, 11, 13, last], np.int32)
        row = Rendered(ids, np.array([0, 1, 1, 1, 0], np.float32), 0)
        gradients.append(gradient(case, policy, [collate([row])], case.roles("llama")))
    assert gradients[0][:2] == gradients[1][:2]
    embedding = next(key for key in gradients[0][3] if "embed" in key)
    assert torch.equal(gradients[0][3][embedding][9], gradients[1][3][embedding][9])


def test_it_falls_on_a_toy_task(case: Case) -> None:
    name = case.models()[0]
    policy, roles, batch = case.policy(name), case.roles(name), case.batch(case.units(8))
    updater = tiny.updater(policy, rate=1e-2)
    losses = []
    for _ in range(40):
        loss = case.objective.loss(policy, batch, case.options(), **roles)
        loss.total.backward()
        updater.weights.absorb()
        updater.apply(updater.norm(loss.weight.detach()), 1.0)
        losses.append(float((loss.total / loss.weight).detach()))
    if case.traits.learns == "tokens":
        assert losses[-1] < 0.5 * losses[0]
    assert losses[-1] < losses[0] - 0.05 * abs(losses[0])
    assert all(before > after for before, after in itertools.pairwise([losses[0], losses[20], losses[39]]))
