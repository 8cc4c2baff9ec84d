"""A student that answers itself: which rows, with what, and that the gradient is that of the divergence on its own tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rounds
import tiny
import torch

from sartor.engine.loop import Plan as FitPlan
from sartor.engine.loop import fit
from sartor.errors import Interrupted
from sartor.events import Event, Noted, Stepped
from sartor.generate.local import LocalGenerator
from sartor.generate.sampling import Sampling
from sartor.models.still import Still
from sartor.objectives import distill
from sartor.rollouts.prompts import Asked
from sartor.rollouts.student import Plan, Student
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Rendered
from sartor.tokens.source import Seat, StepSize, TokenSource

COUNT = 12


def data(weight: float = 1.0) -> list[Rendered]:
    """Rows of a prompt and an answer of two tokens."""
    draw = np.random.default_rng(0)
    made = []
    for row in range(COUNT):
        ids = draw.integers(3, rounds.VOCABULARY, 5 + row % 3).astype(np.int32)
        weights = np.zeros(len(ids), np.float32)
        weights[-2:] = weight
        made.append(Rendered(ids, weights, row))
    return made


def prompts() -> Any:
    return {row.row: Asked(row.row, row.ids[:-2], (), f"prompt {row.row}") for row in data()}


def student(policy: Any, share: float = 0.5, *, most: int = 6, window: int = 64, **given: Any) -> Student:
    generator = LocalGenerator(policy, frozenset({rounds.STOP}), rounds.PAD, lambda ids: "", 64)
    return Student(prompts(), generator, Plan(share, 1.0, most, window, 3, distill.WRITTEN), **given)


def source(policy: Any, writer: Student, *, steps: int = 6, micro_tokens: int | None = 40, **given: Any) -> TokenSource:
    size = StepSize(examples=8)
    return TokenSource(
        tiny.Rows(data()), size=size, micro_tokens=micro_tokens, seed=3, steps=steps, rewrite=writer, **given
    )


def texts(made: TokenSource) -> list[tuple[int, list[int], bool]]:
    """(row, ids, whether the student wrote it) of the last step."""
    return sorted((unit[0].row, unit[0].ids.tolist(), bool(len(unit[0].labels))) for unit in made._written)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jensen_shannon"])
@pytest.mark.parametrize("micro_tokens", [None, 20, 1000])
def test_the_gradient_is_that_of_the_divergence_on_its_own_tokens(kind: Any, micro_tokens: int | None) -> None:
    """A plain reference: each row alone, whole logits, divergences in float64 by their definitions."""
    policy, teacher = rounds.moving(), tiny.policy(vocab_size=rounds.VOCABULARY, seed=5)
    made = source(policy, student(policy), micro_tokens=micro_tokens, share=True)
    options = distill.Options(teacher="x", temperature=2.0, divergence=kind, beta=0.3, mix=0.25)
    total = weight = told = 0.0
    for batch in made.take().batches:
        loss = distill.loss(policy, batch, options, teacher=Still(teacher))
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
        told += float(loss.metrics["divergence"])
    found = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    policy.model.zero_grad()
    wanted = count = apart = 0.0
    written = 0
    for (row,) in made._written:
        own = bool(len(row.labels))
        written += own
        start = len(prompts()[row.row].ids)
        ids = torch.from_numpy(row.ids.astype(np.int64))
        logits = policy.model(ids[None]).logits[0, start - 1 : -1].double()
        with torch.no_grad():
            known = teacher.model(ids[None]).logits[0, start - 1 : -1].double()
        q, p = (logits / 2).softmax(1), (known / 2).softmax(1)
        middle = 0.3 * p + 0.7 * q
        forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
        between = 0.3 * (p * (p / middle).log()).sum() + 0.7 * (q * (q / middle).log()).sum()
        divergence = {"forward": forward, "reverse": reverse, "jensen_shannon": between}[kind]
        nll = torch.nn.functional.cross_entropy(logits, ids[start:], reduction="sum")
        value = 4 * divergence if own else 0.75 * 4 * divergence + 0.25 * nll
        value.backward()
        wanted, count, apart = (
            wanted + float(value.detach()),
            count + len(ids) - start,
            apart + float(divergence.detach()),
        )
    assert 0 < written < len(made._written) == 8
    assert (total, weight) == (pytest.approx(wanted, rel=1e-4), count)
    assert told == pytest.approx(apart, rel=1e-4)
    tiny.assert_close(found, {name: p.grad for name, p in policy.model.named_parameters()}, 1e-4)


def test_answers_are_what_the_student_would_say_now() -> None:
    policy = rounds.moving()
    writer = student(policy, share=1.0)
    made = source(policy, writer)
    made.take()
    seed = int(np.random.SeedSequence([3, 8, 0]).generate_state(1, np.uint32)[0])
    asked = [prompts()[unit[0].row] for unit in made._written]
    said = writer.generator.complete(
        [each.ids.tolist() for each in asked], max_new_tokens=6, sampling=Sampling(1.0), seed=seed
    )
    for one in said:
        assert made._written[one.index][0].ids[len(asked[one.index].ids) :].tolist() == list(one.ids)
    before = texts(made)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    again = source(policy, student(policy, share=1.0))
    again.take()
    assert [row for row, *_ in texts(again)] == [row for row, *_ in before]
    assert texts(again) != before


def test_the_share_of_rows_is_the_students_and_their_weight_stays() -> None:
    policy = rounds.moving()
    made = source(policy, student(policy, share=0.25, most=2), steps=60)
    own = []
    for _ in range(60):
        made.take()
        own += [written for *_, written in texts(made)]
    assert np.mean(own) == pytest.approx(0.25, abs=0.08)
    heavy = student(policy, share=1.0)([[row] for row in data(0.5)], 0)
    assert {float(unit[0].weight.max()) for unit in heavy} == {0.5}
    assert all((unit[0].weight[: len(prompts()[unit[0].row].ids)] == 0).all() for unit in heavy)


def test_the_step_taken_again_is_the_same_answers() -> None:
    policy = rounds.moving()
    made = source(policy, student(policy))
    first = made.take()
    again = made.again(12)
    assert len(again.batches) > len(first.batches)
    assert (again.rows, again.supervised) == (first.rows, first.supervised)
    targets = [np.sort(np.concatenate([batch.target for batch in step.batches])) for step in (first, again)]
    assert np.array_equal(*targets)


def test_two_ranks_write_what_one_writes() -> None:
    policy = rounds.moving()
    units = [[row] for row in data()]
    whole = student(policy, share=1.0)(units, 4)
    told: list[Any] = []

    def note(value: Any) -> list[Any]:
        told.append(value)
        return [value]

    for rank in range(2):
        student(policy, share=1.0, seat=Seat(rank, 2), gather=note)(units, 4)
    assert {len(share) for share in told} == {COUNT // 2}
    both = student(policy, share=1.0, seat=Seat(0, 2), gather=lambda value: told)(units, 4)
    assert [unit[0].ids.tolist() for unit in both] == [unit[0].ids.tolist() for unit in whole]


def test_a_prompt_without_room_keeps_its_own_answer_and_that_is_told_once() -> None:
    notes: list[Event] = []
    policy = rounds.moving()
    writer = student(policy, share=1.0, window=4, emit=notes.append)
    made = source(policy, writer)
    made.take()
    made.take()
    kept = [unit[0] for unit in made._written if not len(unit[0].labels)]
    assert kept
    assert all(np.array_equal(row.ids, data()[row.row].ids) for row in kept)
    assert [note.code for note in notes if isinstance(note, Noted)] == ["N429"]


def learn(policy: Any, folder: Path, ask: Callable[[], bool] = lambda: False) -> list[Event]:
    teacher, options = Still(tiny.policy(vocab_size=rounds.VOCABULARY, seed=5)), distill.Options(teacher="x")
    numbers: dict[str, Any] = {"validate_every": 1000, "save_every": 1000, "metrics": distill.TRAITS.metrics}
    plan = FitPlan(seed=3, factor=lambda step, steps: 1.0, **numbers)
    return list(
        fit(
            policy,
            lambda over, batch: distill.loss(over, batch, options, teacher=teacher),
            source(policy, student(policy), steps=40),
            tiny.updater(policy, rate=3e-3),
            plan,
            validate=None,
            watchers=(),
            checkpoints=Checkpoints(folder, lambda note: None),
            stop_asked=ask,
        )
    )


def divergences(events: Sequence[Event]) -> list[float]:
    return [event.metrics["divergence"] for event in events if isinstance(event, Stepped)]


def test_it_comes_nearer_and_resumes_to_the_bit(tmp_path: Path) -> None:
    unbroken = rounds.moving()
    told = divergences(learn(unbroken, tmp_path / "a"))
    assert np.mean(told[-5:]) < 0.5 * np.mean(told[:5])
    counter = itertools.count(1)
    with pytest.raises(Interrupted):
        learn(rounds.moving(), tmp_path / "b", lambda: next(counter) >= 17)
    policy = rounds.moving()
    assert divergences(learn(policy, tmp_path / "b")) == told[17:]
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, dict(unbroken.model.named_parameters())[name])


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "t5", "bart"])
def test_an_answer_is_scored_as_it_was_written(name: str) -> None:
    """The log-probability of each token in the batch is that with which it was drawn."""
    policy = rounds.moving(name)
    policy.eval()
    writer = student(policy, share=1.0)
    made = source(policy, writer, micro_tokens=1000)
    (batch,) = made.take().batches
    seed = int(np.random.SeedSequence([3, 8, 0]).generate_state(1, np.uint32)[0])
    ids = [prompts()[unit[0].row].ids.tolist() for unit in made._written]
    said = writer.generator.complete(ids, max_new_tokens=6, sampling=Sampling(1.0), seed=seed, logp=True)
    drawn = {one.index: one.logp for one in said}
    found = policy.logp(batch).detach().numpy()
    for place, unit in enumerate(made._written):
        own = (batch.row == batch.rows.index(unit[0].row)).numpy()
        assert found[own] == pytest.approx(drawn[place], abs=1e-4)
