"""Anchors against autograd of the written-out penalty; micro-batches, resume and forgetting."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import tiny
import torch

from sartor.engine.anchor import Anchor
from sartor.engine.anchors import ewc
from sartor.engine.loop import Plan, fit
from sartor.engine.optimizers import adamw, sgd
from sartor.engine.precision import Masters
from sartor.engine.schedules import constant
from sartor.engine.updater import Updater
from sartor.errors import Interrupted
from sartor.events import Event, Stepped
from sartor.methods import full, lora
from sartor.models.policy import CausalPolicy
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.source import StepSize, TokenSource

ROWS = tiny.rows(12, seed=4)
STRENGTH = 0.7


def moving(seed: int = 0, dtype: torch.dtype = torch.float32) -> CausalPolicy:
    policy = tiny.policy(seed=seed, dtype=dtype)
    full.attach(policy, full.Options(), seed=1)
    policy.eval()
    return policy


def weighed(weights: Masters, seed: int = 3) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.rand(master.shape, generator=draw) for name, master in weights.masters.items()}


def shaken(weights: Masters) -> None:
    """Somewhere else than where training began."""
    draw = torch.Generator().manual_seed(9)
    moved = {name: m.detach() + torch.randn(m.shape, generator=draw) / 50 for name, m in weights.masters.items()}
    weights.load(moved)


@pytest.mark.parametrize("important", [False, True])
def test_the_gradient_is_that_of_the_written_out_penalty(important: bool) -> None:
    policy = moving()
    start = tiny.weights(policy)
    weights = Masters(policy.trainable())
    importance = weighed(weights) if important else None
    updater = Updater(
        weights, sgd, sgd.Options(), learning_rate=0.1, clip_norm=1.0, anchor=Anchor(weights, STRENGTH, importance)
    )
    shaken(weights)
    batch = collate(ROWS)
    loss = tiny.objective(policy, batch)
    parameters = policy.trainable()
    penalty = STRENGTH / 2 * sum(
        ((importance[name] if importance else 1.0) * (parameter - start[name]).square()).sum()
        for name, parameter in parameters.items()
    )  # fmt: skip
    expected = torch.autograd.grad(loss.total / loss.weight + penalty, list(parameters.values()))
    weights.backward(tiny.objective(policy, batch).total, last=True)
    norm = updater.norm(loss.weight.detach())
    for (name, master), wanted in zip(weights.masters.items(), expected, strict=True):
        torch.testing.assert_close(master.grad, wanted, rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(norm, torch.nn.utils.get_total_norm(expected))
    assert updater.penalty is not None
    torch.testing.assert_close(updater.penalty, penalty.detach())


def test_a_weight_that_no_row_reached_is_pulled_too() -> None:
    policy = moving()
    weights = Masters(policy.trainable())
    updater = Updater(weights, sgd, sgd.Options(), learning_rate=0.1, clip_norm=0.0, anchor=Anchor(weights, STRENGTH))
    start = {name: master.detach().clone() for name, master in weights.masters.items()}
    shaken(weights)
    updater.norm(torch.ones(()))
    for name, master in weights.masters.items():
        torch.testing.assert_close(master.grad, STRENGTH * (master.detach() - start[name]))


def plain_fisher(policy: CausalPolicy, rows: list[Rendered]) -> dict[str, torch.Tensor]:
    """As it is written: a backward pass for each row, squared, averaged."""
    parameters = policy.trainable()
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for row in rows:
        batch = collate([row])
        loss = -(batch.weight * policy.logp(batch)).sum()
        for name, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            total[name] += gradient.square()
    return {name: tensor / len(rows) for name, tensor in total.items()}


def test_the_fisher_information_is_that_of_single_rows() -> None:
    policy = moving()
    weights = Masters(policy.trainable())
    found = ewc.importance(policy, weights, ROWS)
    for name, wanted in plain_fisher(moving(), ROWS).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-7 + 1e-5 * float(wanted.max()), msg=name)
        assert not found[name].requires_grad
    assert all(master.grad is None for master in weights.masters.values()), "nothing is left behind"
    batch = collate(ROWS)
    together = torch.autograd.grad(policy.nll(batch), list(policy.trainable().values()))
    sums = {name: each.square() for name, each in zip(policy.trainable(), together, strict=True)}
    assert any(not torch.allclose(found[name] * len(ROWS), sums[name], rtol=0.1) for name in sums)


def test_the_fisher_information_of_bf16_is_fp32() -> None:
    policy = moving(dtype=torch.bfloat16)
    found = ewc.importance(policy, Masters(policy.trainable()), ROWS)
    wanted = plain_fisher(moving(), ROWS)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    ours, theirs = (torch.cat([tensors[name].flatten() for name in wanted]) for tensors in (found, wanted))
    assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.98


Held = Callable[[CausalPolicy, Masters], Anchor | None]


def train(
    policy: CausalPolicy,
    folder: Path,
    held: Held,
    *,
    rows: list[Rendered] = ROWS,
    micro_tokens: int | None = 64,
    stop_after: int = 0,
    rate: float = 1e-2,
    epochs: float = 4.0,
    save_every: int = 2,
) -> list[Event]:
    weights = Masters(policy.trainable())
    updater = Updater(weights, adamw, adamw.Options(), learning_rate=rate, clip_norm=1.0, anchor=held(policy, weights))
    source = TokenSource(tiny.Rows(rows), size=StepSize(examples=6), micro_tokens=micro_tokens, seed=3, epochs=epochs)
    plan = Plan(
        seed=3,
        factor=lambda step, steps: constant.factor(step, steps, constant.Options(warmup=0.0)),
        validate_every=100,
        save_every=save_every,
    )
    counter = itertools.count(1)
    return list(
        fit(
            policy,
            tiny.objective,
            source,
            updater,
            plan,
            validate=None,
            watchers=[],
            checkpoints=Checkpoints(folder, lambda note: None),
            stop_asked=lambda: bool(stop_after) and next(counter) >= stop_after,
        )
    )


def l2(policy: CausalPolicy, weights: Masters) -> Anchor:
    return Anchor(weights, 5.0)


def by_rows(policy: CausalPolicy, weights: Masters) -> Anchor:
    return Anchor(weights, 50.0, ewc.importance(policy, weights, tiny.rows(4, seed=7)))


def free(policy: CausalPolicy, weights: Masters) -> None:
    return None


def far(policy: CausalPolicy, start: Mapping[str, torch.Tensor]) -> float:
    return float(sum((p.detach() - start[name]).square().sum() for name, p in policy.trainable().items()))


@pytest.mark.parametrize("held", [l2, by_rows])
def test_micro_batches_change_nothing(held: Held, tmp_path: Path) -> None:
    one, other = moving(), moving()
    whole = train(one, tmp_path / "a", held, micro_tokens=4096)
    cut = train(other, tmp_path / "b", held, micro_tokens=24)
    for mine, theirs in zip(whole, cut, strict=True):
        if isinstance(mine, Stepped) and isinstance(theirs, Stepped):
            assert theirs.metrics["anchor"] == pytest.approx(mine.metrics["anchor"], rel=1e-3)
    tiny.assert_close(tiny.weights(one), tiny.weights(other), 1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("held", [l2, by_rows])
def test_interrupted_and_resumed_equals_unbroken(held: Held, method: str, tmp_path: Path) -> None:
    def fresh() -> CausalPolicy:
        policy = tiny.policy()
        full.attach(policy, full.Options(), seed=1) if method == "full" else lora.attach(policy, lora.Options(), seed=1)
        return policy

    unbroken, broken, resumed = fresh(), fresh(), fresh()
    taken = train(unbroken, tmp_path / "a", held)
    with pytest.raises(Interrupted):
        train(broken, tmp_path / "b", held, stop_after=3)
    later = train(resumed, tmp_path / "b", held)
    wanted, found = tiny.weights(unbroken), tiny.weights(resumed)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    numbers = [event.metrics["anchor"] for event in taken if isinstance(event, Stepped)]
    assert [event.metrics["anchor"] for event in later if isinstance(event, Stepped)] == numbers[3:]
    assert numbers[0] == 0 < numbers[-1]


def test_without_an_anchor_nothing_is_reported(tmp_path: Path) -> None:
    steps = [event for event in train(moving(), tmp_path, free) if isinstance(event, Stepped)]
    assert all("anchor" not in event.metrics for event in steps)


def test_weights_stay_nearer(tmp_path: Path) -> None:
    start = tiny.weights(moving())
    found = {}
    for name, held in (("free", free), ("l2", l2)):
        policy = moving()
        train(policy, tmp_path / name, held)
        found[name] = far(policy, start)
    assert found["l2"] < 0.5 * found["free"]


@pytest.mark.slow
def test_what_was_learnt_before_is_forgotten_less(tmp_path: Path) -> None:
    """Two tasks over the same prompts' tokens: after the second, the loss on the first rises less with EWC."""
    first, second = tiny.rows(8, seed=20), tiny.rows(8, seed=21)

    def losses(policy: CausalPolicy) -> list[float]:
        policy.eval()
        with torch.no_grad():
            return [float(policy.nll(collate(rows)) / collate(rows).weight.sum()) for rows in (first, second)]

    policy = moving()
    train(policy, tmp_path / "first", free, rows=first, epochs=40, save_every=99)
    before, start = losses(policy), tiny.weights(policy)
    found = {}
    for name in ("free", "ewc"):

        def held(policy: CausalPolicy, weights: Masters, name: str = name) -> Anchor | None:
            return None if name == "free" else Anchor(weights, 30.0, ewc.importance(policy, weights, first))

        later = moving()
        Masters(later.trainable()).load(start)
        train(later, tmp_path / name, held, rows=second, epochs=40, save_every=99)
        found[name] = losses(later)
    assert before[0] < 0.2
    assert found["free"][0] > before[0] + 1
    assert found["ewc"][0] - before[0] < 0.6 * (found["free"][0] - before[0])
    assert found["ewc"][1] < 0.7 * before[1], "and the second task is learnt"
