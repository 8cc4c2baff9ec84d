"""Rules of merging against closed forms, plain references and PEFT's own functions."""

from __future__ import annotations

import math

import pytest
import torch
from peft.utils import merge_utils as peft_rules

from sartor.models.merging import Rule, dare, largest, linear, slerp, stream, ties, weighted


def tensors(count: int, shape: tuple[int, ...] = (6, 8)) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=draw) for _ in range(count)]


def test_linear_is_the_weighted_mean() -> None:
    a, b, c = tensors(3)
    torch.testing.assert_close(linear([a, b, c], [1, 2, 5]), (a + 2 * b + 5 * c) / 8)
    torch.testing.assert_close(Rule("average", (1 / 3,) * 3).merge("w", [a, b, c], None), (a + b + c) / 3)
    assert torch.equal(linear([a], [0.3]), a)


def test_slerp_goes_along_the_arc() -> None:
    """On a circle the angle is the share of the whole, and the length stays."""
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(1.2), math.sin(1.2)])
    for share in (0.0, 0.25, 0.5, 1.0):
        made = slerp(first, second, share)
        torch.testing.assert_close(made, torch.tensor([math.cos(1.2 * share), math.sin(1.2 * share)]))
    assert torch.equal(slerp(first, first, 0.3), first)
    assert torch.equal(slerp(torch.zeros(2), second, 0.5), second / 2)
    a, b = tensors(2)
    assert torch.equal(Rule("slerp", (0.75, 0.25)).merge("w", [a, b], None), slerp(a, b, 0.25))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 0.2, 1.7)])
@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_ties_is_pefts(weights: tuple[float, ...], density: float) -> None:
    differences = tensors(3)
    expected = peft_rules.ties(differences, torch.tensor(weights), density)
    torch.testing.assert_close(ties(differences, weights, density), expected)


def test_ties_is_the_papers_algorithm() -> None:
    """Number by number: trim, elect a sign, average those that have it."""
    differences = tensors(3, (40,))
    density, kept = 0.3, []
    for difference in differences:
        order = sorted(range(40), key=lambda place: -abs(float(difference[place])))[: int(density * 40)]
        kept.append([float(difference[place]) if place in order else 0.0 for place in range(40)])
    expected = []
    for column in zip(*kept, strict=True):
        sign = 1 if sum(column) >= 0 else -1
        agreeing = [value for value in column if value * sign > 0]
        expected.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    torch.testing.assert_close(ties(differences, (1.0, 1.0, 1.0), density), torch.tensor(expected))


def test_the_largest_numbers_are_kept() -> None:
    tensor = torch.tensor([[1.0, -5.0], [0.5, 3.0]])
    assert largest(tensor, 0.5).tolist() == [[0.0, -5.0], [0.0, 3.0]]
    assert largest(tensor, 0.01).tolist() == [[0.0, -5.0], [0.0, 0.0]]
    assert torch.equal(largest(tensor, 1.0), tensor)


def test_dare_is_pefts_with_the_same_draw() -> None:
    differences, weights = tensors(2), (0.4, 0.8)
    torch.manual_seed(5)
    expected = peft_rules.dare_linear(differences, torch.tensor(weights), 0.3)
    draw = torch.Generator().manual_seed(5)
    torch.testing.assert_close(dare(differences, weights, 0.3, [draw, draw]), expected)


def test_dare_keeps_the_mean_and_the_density() -> None:
    (difference,) = tensors(1, (400, 500))
    thin = dare([difference], [1.0], 0.1, [stream(0, 0, "w")])
    left = thin != 0
    assert float(left.float().mean()) == pytest.approx(0.1, abs=0.005)
    torch.testing.assert_close(thin[left], difference[left] / 0.1)
    ones = dare([torch.ones(400, 500)], [1.0], 0.1, [stream(0, 0, "w")])
    assert float(ones.mean()) == pytest.approx(1.0, abs=0.05)


def test_what_dare_draws_depends_on_seed_model_and_tensor() -> None:
    base = torch.zeros(6, 8)
    (one,) = tensors(1)

    def made(seed: int, name: str) -> torch.Tensor:
        return Rule("dare", (1.0, 1.0), 0.5, seed).merge(name, [one, one], base)

    assert torch.equal(made(1, "a"), made(1, "a"))
    assert not torch.equal(made(1, "a"), made(2, "a"))
    assert not torch.equal(made(1, "a"), made(1, "b"))
    doubled = 2 * Rule("dare", (1.0,), 0.5, 1).merge("a", [one], base)
    assert not torch.equal(made(1, "a"), doubled), "two models draw apart"


def test_task_arithmetic_adds_and_subtracts() -> None:
    base, one, two = tensors(3)
    made = Rule("task", (0.7, -0.4)).merge("w", [one, two], base)
    torch.testing.assert_close(made, base + 0.7 * (one - base) - 0.4 * (two - base))
    torch.testing.assert_close(weighted([one, two], [1.0, 0.0]), one)


@pytest.mark.parametrize("how", ["task", "ties", "dare"])
def test_a_model_that_did_not_move_changes_nothing(how: str) -> None:
    (base,) = tensors(1)
    assert torch.equal(Rule(how, (1.0, 1.0), 0.5).merge("w", [base, base], base), base)
