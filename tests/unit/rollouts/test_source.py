"""The source: what it writes, what stands beside a batch, and that nothing but the seed decides what is learnt."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rounds
import tiny
import torch

from sartor import registry
from sartor.errors import InputError, Interrupted
from sartor.events import Event, Noted, Rolled, Stepped
from sartor.methods import lora
from sartor.models.still import Still
from sartor.rollouts.advantages import gae
from sartor.rollouts.round import Round
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Rendered, collate

NAMES = [name for name in registry.names("objective") if registry.component("objective", name).TRAITS.reads == "prompt"]
SMALL = {"prompts": 3, "samples": 2}


@pytest.fixture(params=NAMES)
def objective(request: pytest.FixtureRequest) -> ModuleType:
    torch.set_num_threads(1)
    return registry.component("objective", request.param)


def valued(objective: ModuleType) -> bool:
    return bool(objective.Options().credit.rule == "gae")


def made(objective: ModuleType, name: str = "llama", **given: Any) -> tuple[Any, Any]:
    options = objective.Options(**SMALL | given.pop("options", {}))
    policy = rounds.moving(name, values=valued(objective))
    return rounds.source(policy, objective, options, **given), options


def test_at_the_first_step_the_ratio_is_exactly_one(objective: ModuleType) -> None:
    source, options = made(objective, examples=6, micro_tokens=20)
    step = source.take()
    assert len(step.batches) > 1
    for batch in step.batches:
        source.policy.train()
        logp = source.policy.logp(batch)
        assert torch.equal(logp, batch.columns["logp"])
        loss = objective.loss(source.policy, batch, options)
        assert float(loss.metrics["drift"]) == float(loss.metrics["clipped"]) == 0
        expected = -batch.columns["advantage"]
        if getattr(options, "mean", "token") == "token":
            assert float(loss.metrics["policy_loss"].detach()) == pytest.approx(float(expected.sum()), abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_the_gradient_does_not_depend_on_micro_batches(objective: ModuleType, name: str) -> None:
    source, options = made(objective, name, examples=6, options={"passes": 2})
    source.take()
    with torch.no_grad():
        for parameter in source.policy.trainable().values():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    found = {}
    for micro_tokens in (None, 12, 1000):
        batches = source.again(micro_tokens).batches
        source.policy.model.zero_grad()
        total = weight = 0.0
        for batch in batches:
            loss = objective.loss(source.policy, batch, options)
            loss.total.backward()
            total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
        grads = {key: p.grad.clone() for key, p in source.policy.trainable().items() if p.grad is not None}
        if source.policy.value_head is not None:
            source.policy.value_head.zero_grad()
        found[micro_tokens] = total, weight, grads
    total, weight, grads = found[1000]
    assert weight == (len(batches[0].rows) if getattr(options, "mean", "") == "answer" else len(batches[0].at))
    for other_total, other_weight, other in found.values():
        assert other_total == pytest.approx(total, rel=1e-4, abs=1e-5)
        assert other_weight == pytest.approx(weight)
        tiny.assert_close(other, grads, 1e-4)


def test_interrupted_within_a_round_and_resumed_equals_unbroken(objective: ModuleType, tmp_path: Path) -> None:
    """Stopped at step 5 of rounds of 2 passes of 2 steps: in the middle of the second round."""

    def run(folder: Path, ask: Any = lambda: False) -> tuple[dict[str, torch.Tensor], list[Event]]:
        rolled: list[Event] = []
        given = {"passes": 2, "kl": 0.1} | ({} if objective.__name__.endswith("grpo") else {"kl_target": 0.01})
        source, options = made(objective, examples=3, steps=11, options=given, emit=rolled.append)
        try:
            rounds.learn(source.policy, source, objective, options, folder, stop_asked=ask)
        finally:
            weights.update({key: p.detach().clone() for key, p in source.policy.trainable().items()})
        return weights, rolled

    weights: dict[str, torch.Tensor] = {}
    unbroken, told = run(tmp_path / "a")
    expected = dict(unbroken)
    counter = itertools.count(1)
    with pytest.raises(Interrupted):
        run(tmp_path / "b", lambda: next(counter) >= 5)
    newest = Checkpoints(tmp_path / "b", lambda note: None).newest()
    assert newest is not None
    state = json.loads((newest / "state.json").read_text())["source"]
    assert (state["pass"], state["index"], state["rounds"], state["done"]) == (0, 1, 2, 5)
    assert state["round"]["columns"]
    again, after = run(tmp_path / "b")
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in expected.items())
    both = [[replace(each, seconds=0) for each in events if isinstance(each, Rolled)] for events in (told, after)]
    assert both[0][2:] == both[1]


def test_a_round_is_the_same_after_its_way_through_json(objective: ModuleType) -> None:
    source, _ = made(objective)
    source.take()
    before: Round = source._round
    after = Round.from_json(json.loads(json.dumps(before.json(), allow_nan=False)))
    assert (after.number, after.rows, after.prompts) == (before.number, before.rows, before.prompts)
    assert all(np.array_equal(a, b) for a, b in zip(after.ids, before.ids, strict=True))
    assert after.columns.keys() == before.columns.keys()
    for name, values in before.columns.items():
        assert all(np.array_equal(a, b) for a, b in zip(after.columns[name], values, strict=True)), name


def test_columns_stand_in_the_order_of_the_places() -> None:
    """The value of each place, its advantage and its return, worked out again from the reward of its answer."""
    ppo = registry.component("objective", "ppo")
    source, _ = made(ppo, examples=6, options={"whiten": False, "kl": 0.0, "trace": 0.5, "discount": 0.9})
    with torch.no_grad():
        source.policy.value_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    (batch,) = source.take().batches
    asked = {each.row: each for each in source.prompts.asked}
    assert source._rounds == 1
    for number, row in enumerate(batch.rows):
        own = batch.row == number
        ids = batch.target[own].numpy()
        rewards = np.zeros(len(ids))
        rewards[-1] = np.mean(ids == asked[row].ids[0])
        values = batch.columns["value"][own].numpy()
        advantages, returns = gae(rewards, values, discount=0.9, trace=0.5)
        assert batch.columns["advantage"][own].numpy() == pytest.approx(advantages, abs=1e-6)
        assert batch.columns["return"][own].numpy() == pytest.approx(returns, abs=1e-6)
    source.policy.eval()
    assert torch.equal(source.policy.values(batch).detach(), batch.columns["value"])


def test_prompts_come_in_an_order_of_the_seed_and_all_of_them_before_any_again() -> None:
    grpo = registry.component("objective", "grpo")
    source, _ = made(grpo, steps=4, options={"prompts": 2})
    rows = [sorted(set(source.take().rows)) for _ in range(4)]
    assert sorted(rows[0] + rows[1]) == sorted(rows[2] + rows[3]) == [100, 101, 102, 103]
    assert source.epochs == 2
    other, _ = made(grpo, steps=4, options={"prompts": 2})
    assert [sorted(set(other.take().rows)) for _ in range(4)] == rows
    with pytest.raises(StopIteration):
        source.take()


def test_an_adapter_holds_its_own_reference() -> None:
    """With an adapter the reference is the policy with the adapter off: no second model, and its numbers are the base's."""
    policy = tiny.policy(vocab_size=rounds.VOCABULARY)
    lora.attach(policy, lora.Options(rank=4), seed=1)
    for name, parameter in policy.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    grpo = registry.component("objective", "grpo")
    source = rounds.source(policy, grpo, grpo.Options(**SMALL), reference=Still(policy, bare=True), examples=6)
    (batch,) = source.take().batches
    base = tiny.policy(vocab_size=rounds.VOCABULARY)
    base.eval()
    with torch.no_grad():
        assert torch.allclose(batch.columns["reference"], base.logp(batch), atol=1e-5)
    assert not torch.allclose(batch.columns["reference"], batch.columns["logp"], atol=1e-2)


def test_the_penalty_follows_its_target() -> None:
    """Ziegler et al. 2019: beta (1 + 0.1 clip(kl / target - 1, -0.2, 0.2)); at the start the drift is 0, so beta falls by 2 %."""
    rloo = registry.component("objective", "rloo")
    source, _ = made(rloo, options={"kl": 0.5, "kl_target": 1.0})
    source.take()
    assert source.beta == pytest.approx(0.5 * 0.98)
    assert registry.component("objective", "rloo").Options(kl=0.5).target == 0
    unchanged, _ = made(rloo, options={"kl": 0.5})
    unchanged.take()
    assert unchanged.beta == 0.5


def stepped(drift: float) -> Stepped:
    return Stepped(1, 2, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0, 0, {"drift": drift})


def test_a_round_ends_where_the_policy_has_moved_too_far() -> None:
    grpo = registry.component("objective", "grpo")
    notes: list[Event] = []
    source, _ = made(grpo, examples=3, options={"passes": 3, "kl_stop": 0.1}, emit=notes.append)
    for drift in (0.05, 0.25):
        source.take()
        source.see(stepped(drift))
    source.take()
    assert (source._rounds, source._pass, source._index) == (2, 0, 1)
    assert [note.code for note in notes if isinstance(note, Noted)] == ["N427"]
    for drift in (0.05, 0.05):
        source.see(stepped(drift))
        source.take()
    assert (source._rounds, source._pass) == (2, 1)


class Choosy:
    """Cannot judge answers to some prompts."""

    name = "choosy"

    def __init__(self, rows: set[int]) -> None:
        self.rows = rows

    def score(self, answers: Any) -> Any:
        return np.array([np.nan if answer.asked.row in self.rows else 1.0 for answer in answers])


def test_what_could_not_be_judged_is_counted_and_not_learnt() -> None:
    reinforce = registry.component("objective", "reinforce")
    notes: list[Event] = []
    source, _ = made(reinforce, reward=Choosy({101}), examples=8, options={"prompts": 4}, emit=notes.append)
    assert sorted(set(source.take().rows)) == [100, 102, 103]
    (note,) = [each for each in notes if isinstance(each, Noted)]
    assert note.code == "N422"
    assert "2 of 8 answers" in note.message
    nothing, _ = made(reinforce, reward=Choosy({100, 101, 102, 103}))
    with pytest.raises(InputError, match="N423"):
        nothing.take()


def test_an_answer_that_does_not_end_pays_for_it() -> None:
    reinforce = registry.component("objective", "reinforce")
    rolled: list[Event] = []
    for cost in (0.0, 2.0):
        source, _ = made(reinforce, reward=Choosy(set()), options={"unfinished": cost}, emit=rolled.append)
        source.take()
    free, paid = (each.metrics for each in rolled if isinstance(each, Rolled))
    assert free["unfinished"] == paid["unfinished"] > 0
    assert paid["reward"] == pytest.approx(1 - 2 * paid["unfinished"])


def test_answers_of_every_round_are_kept(tmp_path: Path) -> None:
    grpo = registry.component("objective", "grpo")
    source, _ = made(grpo, folder=tmp_path)
    source.take()
    lines = [json.loads(line) for line in (tmp_path / "rounds/round-00000.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert lines[0].keys() == {"row", "prompt", "answer", "reward", "kl", "tokens", "finished"}


def test_rows_of_the_data_count_as_one_mean_beside_the_answers() -> None:
    """InstructGPT, equation 2: the gradient with ptx is that without plus ptx times that of the mean over the data's answers."""
    ppo = registry.component("objective", "ppo")
    mix = [Rendered(np.array([3, 4, 5, 6, 7], np.int32), np.array([0, 0, 1, 1, 1], np.float32), 7)]

    def gradient(rows: Any, ptx: float, micro_tokens: int) -> Any:
        source, options = made(ppo, mix=rows, examples=6, micro_tokens=micro_tokens, options={"ptx": ptx})
        total = weight = told = 0.0
        for batch in source.take().batches:
            loss = ppo.loss(source.policy, batch, options)
            loss.total.backward()
            weight, told = weight + float(loss.weight), told + float(loss.metrics["ptx_loss"].detach())
            total += float(loss.total.detach())
        parameters = source.policy.model.named_parameters()
        return {key: p.grad / weight for key, p in parameters}, told / weight

    plain, nothing = gradient((), 0.0, 1000)
    assert nothing == 0
    policy = rounds.moving()
    nll = policy.nll(collate(mix)) / 3
    nll.backward()
    for micro_tokens in (1000, 12):
        mixed, told = gradient(mix, 0.5, micro_tokens)
        assert told == pytest.approx(float(nll.detach()), rel=1e-5)
        wanted = {key: plain[key] + 0.5 * p.grad for key, p in policy.model.named_parameters()}
        tiny.assert_close(mixed, wanted, 1e-4)
