"""The loop: resume, guards, early stopping, memory, and that nothing happens in silence."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import tiny
import torch

from sartor.engine.optimizers import adam, adamw, sgd
from sartor.engine.spike import spike
from sartor.engine.updater import parameter_groups
from sartor.engine.validation import mean_loss
from sartor.engine.watchers import best, early_stop, overfitting
from sartor.errors import Interrupted, SartorError, TrainingStopped
from sartor.events import Finished, Noted, Saved, Stepped, Validated
from sartor.tokens.batch import Rendered, collate


def full(**changes):
    policy = tiny.policy(**changes)
    policy.model.requires_grad_(True)
    return policy


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def stop_after(calls):
    counter = itertools.count(1)
    return lambda: next(counter) >= calls


@pytest.mark.parametrize("optimizer", [adamw, adam, sgd])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_interrupted_and_resumed_equals_unbroken_bit_for_bit(tmp_path, optimizer, dtype):
    kwargs = {"epochs": 3, "rate": 1e-3, "optimizer": optimizer}
    unbroken = full(dtype=dtype)
    events = tiny.train(unbroken, tiny.rows(30), tmp_path / "a", **kwargs)

    broken = full(dtype=dtype)
    with pytest.raises(Interrupted):
        tiny.train(broken, tiny.rows(30), tmp_path / "b", stop_asked=stop_after(5), **kwargs)
    assert not same(tiny.weights(broken), tiny.weights(unbroken))
    resumed = full(dtype=dtype, seed=9)
    more = tiny.train(resumed, tiny.rows(30), tmp_path / "b", **kwargs)
    assert same(tiny.weights(resumed), tiny.weights(unbroken))
    losses = {event.step: event.loss for event in events if isinstance(event, Stepped)}
    again = {event.step: event.loss for event in more if isinstance(event, Stepped)}
    assert min(again) == 6
    assert again.items() <= losses.items()


def test_resume_keeps_dropout_and_validation_history(tmp_path):
    rows = tiny.rows(24)

    def made():
        policy = tiny.policy("gpt2", resid_pdrop=0.2, embd_pdrop=0.1, attn_pdrop=0.1)
        policy.model.requires_grad_(True)
        batches = [collate(rows[:6])]
        return policy, lambda: mean_loss(policy, iter(batches))

    def watchers():
        return [best.build("loss", sign=-1.0, min_delta=0.0, patience=3)]

    one, validate = made()
    events = tiny.train(one, rows, tmp_path / "a", epochs=4, validate=validate, watchers=watchers(), rate=3e-3)
    two, validate = made()
    with pytest.raises(Interrupted):
        tiny.train(two, rows, tmp_path / "b", epochs=4, validate=validate, watchers=watchers(), rate=3e-3,
                   stop_asked=stop_after(7))  # fmt: skip
    three, validate = made()
    more = tiny.train(three, rows, tmp_path / "b", epochs=4, validate=validate, watchers=watchers(), rate=3e-3)
    assert same(tiny.weights(three), tiny.weights(one))
    assert more[-1].best_step == events[-1].best_step
    assert more[-1].tokens == events[-1].tokens


def test_non_finite_loss_stops_restores_and_names_the_rows(tmp_path, monkeypatch):
    rows = tiny.rows(24)
    policy = full()
    calls = itertools.count(1)

    def poisoned(over, batch):
        loss = tiny.sft.loss(over, batch, tiny.sft.Options())
        bad = next(calls) > 4
        return type(loss)(total=loss.total * float("inf") if bad else loss.total, weight=loss.weight)

    monkeypatch.setattr(tiny, "objective", poisoned)
    with pytest.raises(TrainingStopped) as caught:
        tiny.train(policy, rows, tmp_path, micro_tokens=10_000, name_row=lambda row: f"rows.jsonl:{row + 1}")
    message = str(caught.value)
    assert "N401" in message
    assert "rows.jsonl:" in message
    assert "those of step 3" in message
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tiny.weights(policy).values())


def test_an_absurd_learning_rate_never_saves_a_non_finite_weight(tmp_path):
    policy = full()
    with pytest.raises(TrainingStopped):
        tiny.train(policy, tiny.rows(24), tmp_path, rate=1e30, epochs=5)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tiny.weights(policy).values())


def test_a_spike_can_be_skipped_but_not_three_in_a_row(tmp_path, monkeypatch):
    bad = {3, 7, 8, 9}
    calls = itertools.count(1)

    def poisoned(over, batch):
        loss = tiny.sft.loss(over, batch, tiny.sft.Options())
        factor = float("nan") if next(calls) in bad else 1.0
        return type(loss)(total=loss.total * factor, weight=loss.weight)

    monkeypatch.setattr(tiny, "objective", poisoned)
    with pytest.raises(TrainingStopped, match="step 9"):
        tiny.train(full(), tiny.rows(96), tmp_path, micro_tokens=10_000, on_spike="skip")


def spiking(monkeypatch, *bad, factor=50.0):
    """Losses of some calls of the objective are so many times what they are."""
    calls = itertools.count(1)

    def objective(over, batch):
        loss = tiny.sft.loss(over, batch, tiny.sft.Options())
        return type(loss)(total=loss.total * (factor if next(calls) in bad else 1.0), weight=loss.weight)

    monkeypatch.setattr(tiny, "objective", objective)


def notes(events, code):
    return [event for event in events if isinstance(event, Noted) and event.code == code]


def test_a_finite_spike_is_noted_with_its_rows_and_training_goes_on(tmp_path, monkeypatch):
    spiking(monkeypatch, 41, factor=3.0)
    events = tiny.train(full(), tiny.rows(96), tmp_path, micro_tokens=10_000, epochs=5, rate=1e-4,
                        name_row=lambda row: f"rows.jsonl:{row + 1}")  # fmt: skip
    (note,) = notes(events, "N402")
    assert note.step == 41
    assert re.fullmatch(
        r"loss 1\d\.\d+ is \d+\.\d sigma over the last 40 \((rows\.jsonl:\d+, ){7}rows\.jsonl:\d+\)", note.message
    )
    assert [event.step for event in events if isinstance(event, Stepped)] == list(range(1, 61))


def test_a_finite_spike_is_skipped_when_asked_and_the_same_on_resume(tmp_path, monkeypatch):
    settings = {"micro_tokens": 10_000, "epochs": 4, "rate": 1e-4, "on_spike": "skip"}
    weights = []
    for name, stop in (("whole", None), ("broken", 38)):
        spiking(monkeypatch, 41, factor=3.0)
        policy = full()
        if stop:
            with pytest.raises(Interrupted):
                tiny.train(policy, tiny.rows(96), tmp_path / name, stop_asked=stop_after(stop), **settings)
            spiking(monkeypatch, 41 - stop, factor=3.0)
            policy = full(seed=9)
        events = tiny.train(policy, tiny.rows(96), tmp_path / name, **settings)
        (note,) = notes(events, "N402")
        assert note.step == 41
        assert "sigma over the last 40; step skipped" in note.message
        assert 41 not in [event.step for event in events if isinstance(event, Stepped)]
        weights.append(tiny.weights(policy))
    assert same(*weights)


def test_what_a_spike_is():
    calm = [2.0, 2.1, 1.9] * 20
    assert spike(2.2, calm) is None
    assert spike(8.1, calm) == "loss 8.1 is 41.1 sigma over the last 60"
    assert spike(8.1, [*calm[:59], 8.0]) is not None
    assert spike(8.1, calm[:31]) is None
    assert spike(0.1, calm) is None
    assert spike(2.1, [2.0] * 60) is None


def test_no_memory_for_a_single_row_ends_with_advice(tmp_path, monkeypatch):
    def tight(over, batch):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(tiny, "objective", tight)
    with pytest.raises(SartorError, match=r"N404: step 1: out of memory .* single row.*micro_batch_tokens"):
        tiny.train(full(), tiny.rows(8), tmp_path, micro_tokens=None)


def test_a_batch_with_nothing_to_learn_stops(tmp_path):
    row = Rendered(np.arange(3, 9, dtype=np.int32), np.zeros(6, np.float32), 0)
    with pytest.raises(TrainingStopped, match="T202"):
        tiny.train(full(), [row], tmp_path)


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(tmp_path, monkeypatch):
    rows = tiny.rows(24)
    expected = full()
    tiny.train(expected, rows, tmp_path / "a", micro_tokens=60, rate=1e-3)

    def tight(over, batch):
        if batch.tokens > 70:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return tiny.sft.loss(over, batch, tiny.sft.Options())

    monkeypatch.setattr(tiny, "objective", tight)
    policy = full()
    events = tiny.train(policy, rows, tmp_path / "b", micro_tokens=240, rate=1e-3)
    assert any(isinstance(event, Noted) and event.code == "N403" for event in events)
    assert same(tiny.weights(policy), tiny.weights(expected))


def test_early_stop_keeps_the_best_step(tmp_path):
    losses = iter([3.0, 2.0, 1.0, 1.5, 1.6, 1.7, 0.1])
    watch = [
        best.build("loss", sign=-1, min_delta=0, patience=3),
        early_stop.build("loss", sign=-1, min_delta=0, patience=3),
    ]
    policy = full()
    events = tiny.train(
        policy,
        tiny.rows(80),
        tmp_path,
        validate=lambda: {"loss": next(losses)},
        watchers=watch,
        epochs=5,
        validate_every=2,
    )
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.step, finished.best_step) == (10, 4)
    assert "not improved 3 times" in finished.reason
    at_best = [event for event in events if isinstance(event, Saved) and event.best][-1]
    from safetensors.torch import load_file

    kept = load_file(f"{at_best.path}/weights.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in tiny.weights(policy).items() if name in kept)


def test_overfitting_names_the_step_where_validation_turned():
    watcher = overfitting.build("loss", sign=-1, min_delta=0, patience=3)
    notes = []
    curve = [(0, 2.0, float("nan")), (10, 1.0, 1.5), (20, 0.8, 0.9), (30, 0.9, 0.5), (40, 1.1, 0.2), (50, 1.2, 0.1)]
    for step, validation, train in curve:
        verdict = watcher.see(Validated(step, 0.0, {"loss": validation}, train))
        if verdict:
            notes.append(verdict.note)
    assert len(notes) == 1
    assert "turned at step 20" in notes[0]


def test_a_memorisable_set_raises_the_alarm(tmp_path):
    """Random rows can only be memorised, so validation on other random rows must turn."""
    policy = full()
    held_out = [collate(tiny.rows(12, seed=99))]
    watch = [overfitting.build("loss", sign=-1, min_delta=0, patience=3)]
    events = tiny.train(
        policy,
        tiny.rows(16),
        tmp_path,
        epochs=30,
        rate=5e-3,
        validate=lambda: mean_loss(policy, iter(held_out)),
        watchers=watch,
    )
    assert any(isinstance(event, Noted) and event.code == "N411" for event in events)


def test_decay_spares_vectors_and_shrinks_matrices():
    batch, norms = collate(tiny.rows(16)), {}
    for decay in (0.0, 5.0):
        policy = full()
        updater = tiny.updater(policy, rate=1e-2, weight_decay=decay)
        for _ in range(8):
            loss = tiny.objective(policy, batch)
            loss.total.backward()
            updater.weights.absorb()
            updater.apply(updater.norm(loss.weight), 1.0)
        norms[decay] = sum(float(tensor.norm()) for tensor in tiny.weights(policy).values() if tensor.ndim >= 2)
    assert norms[5.0] < 0.9 * norms[0.0]
    groups = parameter_groups({"w": torch.ones(2, 2), "b": torch.ones(2)}, 0.1)
    assert [(group["weight_decay"], group["params"][0].ndim) for group in groups] == [(0.1, 2), (0.0, 1)]


@pytest.mark.parametrize(
    ("module", "options", "reference"),
    [
        (adamw, {"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)),
        (adam, {}, lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.9, 0.999))),
        (sgd, {"momentum": 0.9, "nesterov": True}, lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True)),
    ],
)
def test_optimisers_match_torch_step_for_step(module, options, reference):
    ours = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
    theirs = torch.nn.Parameter(ours.detach().clone())
    from sartor.engine.updater import Updater

    updater = Updater({"w": ours}, module, module.Options(**options), learning_rate=1e-2, clip_norm=0.0)
    other = reference([theirs])
    for step in range(6):
        for weight in (ours, theirs):
            weight.grad = torch.cos(weight.detach() * (step + 1))
        updater.apply(updater.norm(torch.tensor(1.0)), 1.0)
        other.step()
        assert torch.allclose(ours, theirs, atol=1e-7)


def test_masters_collect_what_bf16_would_lose(tmp_path):
    """Updates below bf16 resolution must still add up."""
    policy = full(dtype=torch.bfloat16)
    before = tiny.weights(policy)
    updater = tiny.updater(policy, rate=1e-5)
    batch = collate(tiny.rows(8))
    for _ in range(200):
        loss = tiny.objective(policy, batch)
        loss.total.backward()
        updater.weights.absorb()
        updater.apply(updater.norm(loss.weight), 1.0)
    moved = sum(float((before[name] != tensor).float().sum()) for name, tensor in tiny.weights(policy).items())
    total = sum(tensor.numel() for tensor in before.values())
    assert moved > 0.5 * total
