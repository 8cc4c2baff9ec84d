"""Every optimiser goes downhill, every schedule stays between zero and its peak, every watcher takes every event."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor import registry
from sartor.engine.updater import Updater
from sartor.events import Event, Finished, Noted, Progressed, Saved, Stage, Started, Stepped, Validated
from sartor.protocols import Verdict

OPTIMIZERS, SCHEDULES, WATCHERS = (registry.names(kind) for kind in ("optimizer", "schedule", "watcher"))


def descend(name: str, steps: int = 60, rate: float = 0.05, *, clip: float = 0.0, **options: Any) -> torch.Tensor:
    """How far an optimiser is from the lowest point of sum of c (w - t)^2 / 2 that it sought from ones; c is 1 to 3."""
    module = registry.component("optimizer", name)
    weight = torch.nn.Parameter(torch.ones(3, 4))
    curve, lowest = torch.linspace(1, 3, 12).reshape(3, 4), torch.linspace(-0.5, 0.5, 12).reshape(3, 4)
    updater = Updater({"w": weight}, module, module.Options(**options), learning_rate=rate, clip_norm=clip)
    for _ in range(steps):
        (curve * (weight - lowest).square() / 2).sum().backward()
        updater.weights.absorb()
        updater.apply(updater.norm(torch.tensor(1.0)), 1.0)
    return weight.detach() - lowest


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_reduces_a_quadratic(name: str) -> None:
    assert float(descend(name).abs().max()) < 0.2


OTHER = {"weight_decay": 0.5, "betas": (0.5, 0.7), "eps": 0.5, "momentum": 0.2, "nesterov": True}
"""A value of each option of an optimiser that is not its default."""
OPTIONS = [
    (name, option)
    for name in OPTIMIZERS
    for option in registry.component("optimizer", name).Options.model_fields
    if option != "learning_rate"
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_of_an_optimiser_acts(name: str, option: str) -> None:
    assert not torch.equal(descend(name, 5, **{option: OTHER[option]}), descend(name, 5))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_at_rate_zero_stands_still_and_its_state_is_tensors(name: str) -> None:
    assert torch.equal(descend(name, 3, 0.0), descend(name, 0))
    module = registry.component("optimizer", name)
    first, second = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    made = [Updater({"w": w}, module, module.Options(), learning_rate=0.1, clip_norm=0.0) for w in (first, second)]

    def step(updater: Updater, weight: torch.nn.Parameter) -> None:
        weight.grad = torch.sin(weight.detach())
        updater.apply(updater.norm(torch.tensor(1.0)), 1.0)

    for _ in range(3):
        step(made[0], first)
    made[1].load(made[0].weight_tensors(), made[0].state_tensors())
    for updater, weight in zip(made, (first, second), strict=True):
        step(updater, weight)
    assert torch.equal(first, second)


def test_clipping_bounds_the_step() -> None:
    """SGD without momentum moves by rate x gradient; clipped to 0.1 it moves by rate x 0.1 in norm."""
    start = descend("sgd", 0)
    whole = 0.1 * float((torch.linspace(1, 3, 12).reshape(3, 4) * start).norm())
    for clip, expected in ((0.1, 0.01), (1000.0, whole)):
        moved = descend("sgd", 1, 0.1, clip=clip, momentum=0.0) - start
        assert float(moved.norm()) == pytest.approx(expected, rel=1e-4)


def factors(name: str, steps: int, **options: float) -> list[float]:
    module = registry.component("schedule", name)
    settings_of = module.Options(**{key: value for key, value in options.items() if key in module.Options.model_fields})
    return [module.factor(step, steps, settings_of) for step in range(1, steps + 1)]


@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=60)
@given(
    steps=st.integers(1, 400),
    warmup=st.floats(0, 0.99, allow_subnormal=False),
    floor=st.floats(0, 1, allow_subnormal=False),
)
def test_a_schedule_rises_to_one_and_never_leaves_zero_to_one(
    name: str, steps: int, warmup: float, floor: float
) -> None:
    found = factors(name, steps, warmup=warmup, floor=floor)
    assert all(0 <= value <= 1 for value in found)
    assert found[0] > 0, "the first step is not wasted"
    rising = round(steps * warmup)
    assert all(early < late for early, late in pairwise(found[: rising + 1]))
    if rising < steps:
        assert found[rising] == pytest.approx(1.0)
        assert all(late <= early + 1e-12 for early, late in pairwise(found[rising:]))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_floor_is_reached_and_not_passed(name: str) -> None:
    for floor in (0.0, 0.25, 1.0):
        last = factors(name, 1000, warmup=0.1, floor=floor)[-1]
        holds = "floor" in registry.component("schedule", name).Options.model_fields
        assert last == pytest.approx(floor if holds else 1.0, abs=2e-3)
        assert last >= floor


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name in SCHEDULES for option in registry.component("schedule", name).Options.model_fields],
)
def test_every_option_of_a_schedule_acts(name: str, option: str) -> None:
    assert factors(name, 50) != factors(name, 50, **{option: 0.4})


EVENTS: list[Event] = [
    Stage("train"),
    Started(0, 10, 2.0, 5, 9),
    Stepped(1, 10, 0.1, 2.0, 1e-3, 1.0, 64, 20, 0.1, 1 << 20),
    Validated(2, 0.2, {"loss": 1.5, "perplexity": 4.5}, float("nan")),
    Saved(2, "step-000002", True),
    Noted("info", "N410", "a note"),
    Progressed("base", 1, None),
    Validated(4, 0.4, {"loss": 1.2, "perplexity": 3.3}, 1.4),
    Validated(6, 0.6, {"loss": 1.6, "perplexity": 4.9}, 0.9),
    Validated(8, 0.8, {"loss": 1.7, "perplexity": 5.5}, 0.5),
    Finished(8, 4, "took every step", 640, 200, 1.0, 1 << 20),
]


def kinds(of: type[Event]) -> set[type[Event]]:
    return {of, *(inner for each in of.__subclasses__() for inner in kinds(each))}


def test_no_event_is_missing_here() -> None:
    own = {kind.__name__ for kind in kinds(Event) if kind.__module__ == "sartor.events"} - {"Event"}
    assert {type(event).__name__ for event in EVENTS} == own


def watch(name: str, metric: str) -> tuple[list[Verdict | None], dict[str, Any]]:
    module: ModuleType = registry.component("watcher", name)
    watcher = module.build(metric, sign=-1.0, min_delta=0.0, patience=2)
    said = [watcher.see(event) for event in EVENTS]
    state = {key: value for key, value in vars(watcher).items() if isinstance(value, int | float | str)}
    return said, state


@pytest.mark.parametrize("metric", ["loss", "perplexity"])
@pytest.mark.parametrize("name", WATCHERS)
def test_a_watcher_takes_every_event_and_is_a_pure_fold(name: str, metric: str) -> None:
    said, state = watch(name, metric)
    assert all(verdict is None or isinstance(verdict, Verdict) for verdict in said)
    assert any(said), "one of these events concerns it"
    for event, verdict in zip(EVENTS, said, strict=True):
        assert verdict is None or isinstance(event, Validated)
        assert verdict is None or not verdict.stop or (verdict.note and verdict.code)
    assert watch(name, metric) == (said, state)
    assert {field.name for field in fields(Verdict)} == {"stop", "keep", "note", "code"}
