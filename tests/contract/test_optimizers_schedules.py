"""Every optimiser goes downhill, every schedule stays between zero and its peak, every watcher takes every event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sartor import registry
from sartor.engine.updater import Updater
from sartor.events import Event, Finished, Noted, Progressed, Rolled, Saved, Stage, Started, Stepped, Validated
from sartor.protocols import Verdict

OPTIMIZERS, SCHEDULES, WATCHERS = (registry.names(kind) for kind in ("optimizer", "schedule", "watcher"))
RATES = {"adafactor": 0.2, "lion": 0.06, "muon": 0.5}
"""Rates for `descend`, where 0.05 is not one that a user would take for weights of size 1."""


def optimizer(name: str) -> ModuleType:
    """The component; skips the test where its library is not installed."""
    module = registry.component("optimizer", name)
    if hasattr(module, "NEEDS"):
        pytest.importorskip(module.NEEDS[0], reason=f'needs the extra "{module.NEEDS[1]}"', exc_type=ImportError)
    return module


def descend(
    name: str, steps: int = 200, rate: float | None = None, *, clip: float = 0.0, **options: Any
) -> torch.Tensor:
    """How far an optimiser is from the lowest point of sum of c (w - t)^2 / 2 that it sought from ones; c is 1 to 3.

    w is a matrix, an embedding and a vector of 12 numbers each.
    """
    module = optimizer(name)
    weights = {key: torch.nn.Parameter(torch.ones(shape)) for key, shape in SHAPES.items()}
    curve, lowest = torch.linspace(1, 3, 12), torch.linspace(-0.5, 0.5, 12)
    peak = RATES.get(name, 0.05) if rate is None else rate
    updater = Updater(
        weights, module, module.Options(**options), learning_rate=peak, clip_norm=clip, tables=["embedding"]
    )
    for step in range(steps):
        sum((curve * (weight.flatten() - lowest).square() / 2).sum() for weight in weights.values()).backward()
        updater.weights.absorb()
        updater.apply(updater.norm(torch.tensor(1.0)), 1.0 - step / steps)
    return torch.stack([weight.detach().flatten() - lowest for weight in weights.values()])


SHAPES = {"matrix": (3, 4), "embedding": (4, 3), "vector": (12,)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_reduces_a_quadratic(name: str) -> None:
    assert float(descend(name).abs().max()) < 0.2


OTHER = {
    "weight_decay": 0.5,
    "betas": (0.5, 0.7),
    "eps": 0.5,
    "momentum": 0.2,
    "nesterov": True,
    "beta2_decay": 0.3,
    "clip": 1.5,
    "newton_schulz_steps": 2,
    "scaling": "original",
    "adamw_share": 0.5,
    ("adafactor", "eps"): 3.0,
    ("muon", "nesterov"): False,
}
"""A value of each option of an optimiser that is not its default."""
OPTIONS = [
    (name, option)
    for name in OPTIMIZERS
    for option in registry.component("optimizer", name).Options.model_fields
    if option != "learning_rate"
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_of_an_optimiser_acts(name: str, option: str) -> None:
    other = OTHER.get((name, option), OTHER[option])
    assert not torch.equal(descend(name, 40, **{option: other}), descend(name, 40))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_at_rate_zero_stands_still(name: str) -> None:
    assert torch.equal(descend(name, 3, 0.0), descend(name, 0))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_says_its_rate_and_its_memory(name: str) -> None:
    module = registry.component("optimizer", name)
    rate, why = module.learning_rate(1e-3, module.Options())
    assert 0 < rate <= 0.1
    assert bool(why) == (rate != 1e-3) or module.Options.model_fields.keys() >= {"betas", "eps"}
    assert 0 <= module.STATE_BYTES <= 8


def stepped(updater: Updater, weights: Mapping[str, torch.nn.Parameter]) -> None:
    for weight in weights.values():
        weight.grad = torch.sin(37 * weight.detach())
    updater.apply(updater.norm(torch.tensor(1.0)), 1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimiser_survives_a_file(name: str, tmp_path: Path) -> None:
    """Factored, 8-bit and scalar entries too: a large matrix, an embedding, a vector, and one that gets no gradient."""
    module = optimizer(name)
    shapes = {"matrix": (64, 96), "embedding": (96, 64), "long": (5000,), "vector": (7,)}
    start = {key: torch.randn(shape, generator=torch.Generator().manual_seed(1)) for key, shape in shapes.items()}
    first, second = ({key: torch.nn.Parameter(tensor.clone()) for key, tensor in start.items()} for _ in range(2))
    one, two = (
        Updater(each, module, module.Options(), learning_rate=0.1, clip_norm=0.0, tables=["embedding"])
        for each in (first, second)
    )
    for _ in range(3):
        stepped(one, first)
    save_file(one.weight_tensors(), tmp_path / "weights.safetensors")
    save_file(one.state_tensors(), tmp_path / "state.safetensors")
    two.load(load_file(tmp_path / "weights.safetensors"), load_file(tmp_path / "state.safetensors"))
    for _ in range(2):
        stepped(one, first)
        stepped(two, second)
    assert all(torch.equal(first[key], second[key]) for key in shapes)
    bytes_each = sum(t.nbytes for key, t in one.state_tensors().items() if key.startswith("matrix/")) / (64 * 96)
    assert bytes_each == pytest.approx(module.STATE_BYTES, abs=0.15)


def torch_muon(weights: Mapping[str, torch.Tensor]) -> list[torch.optim.Optimizer]:
    muon = torch.optim.Muon([weights["matrix"]], lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [weights["embedding"]], "weight_decay": 0.01}, {"params": [weights["vector"]]}]
    return [muon, torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), weight_decay=0.0)]


def torch_adafactor(weights: Mapping[str, torch.Tensor]) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adafactor(list(weights.values()), lr=0.1)]


def torch_adamw(weights: Mapping[str, torch.Tensor]) -> list[torch.optim.Optimizer]:
    matrices = [weights["matrix"], weights["embedding"]]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": [weights["vector"]], "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95))]


@pytest.mark.parametrize(
    ("name", "reference"),
    [("adafactor", torch_adafactor), ("adamw", torch_adamw), ("adamw8bit", torch_adamw), ("muon", torch_muon)],
)
def test_an_optimiser_steps_as_its_reference(name: str, reference: Any) -> None:
    """Small tensors, for which the 8-bit kind keeps fp32 moments."""
    module = optimizer(name)
    ours, theirs = ({key: torch.nn.Parameter(torch.ones(shape)) for key, shape in SHAPES.items()} for _ in range(2))
    updater = Updater(ours, module, module.Options(), learning_rate=0.1, clip_norm=0.0, tables=["embedding"])
    others = reference(theirs)
    for step in range(5):
        for key, weight in theirs.items():
            weight.grad = torch.sin(weight.detach() * torch.arange(1, 13).reshape(weight.shape) + step)
            ours[key].grad = weight.grad.clone()
        updater.apply(updater.norm(torch.tensor(1.0)), 1.0)
        for other in others:
            other.step()
    for key, weight in theirs.items():
        torch.testing.assert_close(ours[key], weight, rtol=1e-5, atol=1e-6)


def test_lion_follows_its_paper() -> None:
    """Algorithm 2 of Chen et al. 2023, in fp64 by hand."""
    module = optimizer("lion")
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
    x, m = weight.detach().double().clone(), torch.zeros(3, 4, dtype=torch.float64)
    updater = Updater({"w": weight}, module, module.Options(weight_decay=0.3), learning_rate=0.02, clip_norm=0.0)
    for step in range(6):
        weight.grad = torch.cos(torch.arange(12.0).reshape(3, 4) + 2 * step)
        g = weight.grad.double()
        updater.apply(updater.norm(torch.tensor(1.0)), 1.0)
        x = x - 0.02 * (torch.sign(0.9 * m + 0.1 * g) + 0.3 * x)
        m = 0.99 * m + 0.01 * g
    torch.testing.assert_close(weight.double(), x, rtol=0, atol=1e-6)


def test_8_bit_moments_stay_near_32_bit_ones() -> None:
    quantised, exact = (optimizer(name) for name in ("adamw8bit", "adamw"))
    moved = []
    for module in (quantised, exact):
        weight = torch.nn.Parameter(torch.zeros(64, 96))
        updater = Updater({"w": weight}, module, module.Options(), learning_rate=1e-3, clip_norm=0.0)
        draw = torch.Generator().manual_seed(0)
        for _ in range(20):
            weight.grad = torch.randn(64, 96, generator=draw)
            updater.apply(updater.norm(torch.tensor(1.0)), 1.0)
        moved.append(weight.detach())
    assert 0 < float((moved[0] - moved[1]).norm() / moved[1].norm()) < 0.03


def test_a_rate_by_name_scales_one_parameter_alone() -> None:
    module = optimizer("sgd")
    weights = {key: torch.nn.Parameter(torch.zeros(2, 2)) for key in "ab"}
    updater = Updater(
        weights, module, module.Options(momentum=0.0), learning_rate=0.5, clip_norm=0.0, rates={"b": 16.0}
    )
    for weight in weights.values():
        weight.grad = torch.ones(2, 2)
    assert updater.apply(updater.norm(torch.tensor(1.0)), 0.5) == 0.25
    assert weights["a"].unique().tolist() == [-0.25]
    assert weights["b"].unique().tolist() == [-4.0]


def test_clipping_bounds_the_step() -> None:
    """SGD without momentum moves by rate x gradient; clipped to 0.1 it moves by rate x 0.1 in norm."""
    start = descend("sgd", 0)
    whole = 0.1 * float((torch.linspace(1, 3, 12) * start).norm())
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
    Validated(2, 0.2, {"loss": 1.5, "perplexity": 4.5, "chosen_logp": -1.0}, float("nan")),
    Saved(2, "step-000002", True),
    Noted("info", "N410", "a note"),
    Rolled(2, 1, 16, {"reward": 0.1, "kl": 0.0, "tokens": 9.0}, 0.5),
    Progressed("base", 1, None),
    Validated(4, 0.4, {"loss": 1.2, "perplexity": 3.3, "general": 0.9, "general_error": 0.02}, 1.4),
    Validated(6, 0.6, {"loss": 1.6, "perplexity": 4.9, "general": 0.4, "general_error": 0.02}, 0.9),
    Validated(8, 0.8, {"loss": 1.7, "perplexity": 5.5, "chosen_logp": -1.7}, 0.5),
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
