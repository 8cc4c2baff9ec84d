"""Predicted times: what they rest on, how wide they are, and what earlier runs teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sartor.advise import speed
from sartor.advise.hardware import Hardware
from sartor.advise.memory import Job, Rows
from sartor.advise.shape import Shape
from sartor.advise.speed import Place, Seconds, Work
from sartor.console import about

HARDWARE = Hardware("cpu", 2, 8 << 30, "amx_bf16", "a processor")
FORM = Shape(
    parameters=134_000_000, layers=30, hidden=576, intermediate=1536, vocabulary=49152, heads=9, kv_heads=3, head_size=64,
    tables=28_300_000, tied=True, gated=True, activation="silu", dropout=0.0, norms=2, centred=False, wide_norms=False,
    head_norms=False, linears={"all": (106_000_000, 30 * 9000)},
)  # fmt: skip
JOB = Job(
    dtype="bfloat16", trainable=FORM.parameters, state=0, tokens=4096, rows=Rows.of(np.array([200])), kernels=True
)
PLACE = Place.of(HARDWARE, 2, JOB)
WORK = speed.training(FORM, JOB, 1_000_000, 200)


def predicted(cache: Path, work: Work = WORK, place: Place = PLACE) -> Seconds:
    return speed.predict(work, place, HARDWARE, 2, FORM, cache)


def test_operations_are_six_for_each_weight_and_token_in_training() -> None:
    """Kaplan et al. 2020, section 2.1; adapters make no gradients of the weights; the head counts where there is loss."""
    assert WORK.per_token == pytest.approx(6 * (FORM.linear + FORM.head), rel=0.05)
    adapters = speed.training(FORM, replace(JOB, rank=16), 1_000_000, 200)
    assert adapters.flops == pytest.approx(2 / 3 * WORK.flops)
    assert speed.training(FORM, replace(JOB, scored=0.0), 1, 0).per_token == pytest.approx(6 * FORM.linear)
    assert speed.training(FORM, replace(JOB, checkpointed=True), 1_000_000, 200).flops == pytest.approx(
        4 / 3 * WORK.flops
    )


def test_a_guess_says_so_and_is_wide(tmp_path: Path) -> None:
    found = predicted(tmp_path / "none")
    assert found.source == "guessed from 2 cores with amx_bf16; runs here will measure it"
    assert found.high / found.low == pytest.approx(speed.GUESS**2)
    assert 10 * 60 < found.expected < 10 * 3600


def test_a_run_teaches_the_next_one(tmp_path: Path) -> None:
    cache = tmp_path / "sartor/speed.json"
    assert speed.record(WORK, PLACE, 1000.0, cache)
    found = predicted(cache)
    assert found.expected == pytest.approx(1000.0)
    assert found.source == "measured in 1 run here"
    assert found.low == pytest.approx(1000 / speed.SPREAD)
    half = replace(WORK, flops=WORK.flops / 2)
    assert predicted(cache, half).expected == pytest.approx(500.0)
    assert speed.record(WORK, PLACE, 3000.0, cache)
    assert speed.record(WORK, PLACE, 2000.0, cache)
    assert predicted(cache).expected == pytest.approx(2000.0)
    assert predicted(cache).source == "measured in 3 runs here"


def test_another_size_widens_the_range_and_a_very_different_one_teaches_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "speed.json"
    speed.record(WORK, PLACE, 1000.0, cache)
    twice = replace(WORK, per_token=2 * WORK.per_token)
    found = predicted(cache, twice)
    assert found.expected == pytest.approx(1000.0)
    assert found.high / found.expected == pytest.approx(speed.SPREAD * 2**0.5)
    assert found.source == "measured in 1 run here with a model 2.0 times smaller"
    assert predicted(cache, replace(WORK, per_token=10 * WORK.per_token)).source.startswith("guessed")


@pytest.mark.parametrize(
    "other",
    [
        Place.of(HARDWARE, 1, JOB),
        Place.of(replace(HARDWARE, name="another"), 2, JOB),
        Place.of(HARDWARE, 2, replace(JOB, kernels=False)),
        Place.of(HARDWARE, 2, replace(JOB, dtype="float32")),
        Place.of(HARDWARE, 2, replace(JOB, rank=8)),
    ],
)
def test_what_was_measured_elsewhere_or_otherwise_does_not_count(tmp_path: Path, other: Place) -> None:
    cache = tmp_path / "speed.json"
    speed.record(WORK, other, 1000.0, cache)
    assert predicted(cache).source.startswith("guessed")
    assert predicted(cache, place=other).source.startswith("measured")


def test_measuring_and_training_are_measured_apart(tmp_path: Path) -> None:
    cache = tmp_path / "speed.json"
    work = replace(speed.evaluation(FORM, 1000, 200), per_token=WORK.per_token)
    speed.record(WORK, PLACE, 1000.0, cache)
    assert predicted(cache, work).source.startswith("guessed")


def test_a_moment_teaches_nothing_and_the_cache_stays_small(tmp_path: Path) -> None:
    cache = tmp_path / "speed.json"
    assert not speed.record(WORK, PLACE, 0.5, cache)
    assert not cache.exists()
    for second in range(speed.KEPT + 5):
        speed.record(WORK, PLACE, 10.0 + second, cache)
    assert len(speed.read(cache)) == speed.KEPT
    assert speed.read(cache)[-1].rate == pytest.approx(WORK.flops / (14 + speed.KEPT))


@pytest.mark.parametrize(
    "content", ["", "{", "{}", "[1]", '[{"place": {}}]', '[{"place": {"machine": "a"}, "kind": "train"}]']
)
def test_a_damaged_cache_is_none(tmp_path: Path, content: str) -> None:
    cache = tmp_path / "speed.json"
    cache.write_text(content)
    assert predicted(cache).source.startswith("guessed")
    assert speed.record(WORK, PLACE, 10.0, cache)
    assert len(speed.read(cache)) == 1


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not speed.record(WORK, PLACE, 10.0, tmp_path / "file" / "speed.json")


def test_gpus_are_known_by_name() -> None:
    rates = [
        speed.guess(Hardware("cuda", 8, 1 << 37, "the GPU", name), 8, "bfloat16", FORM)
        for name in ("NVIDIA H200", "NVIDIA A100-SXM4-80GB", "an old one")
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > speed.guess(HARDWARE, 2, "bfloat16", FORM)


def test_one_after_the_other_adds_up() -> None:
    both = Seconds(10, 5, 20, "guessed") + Seconds(1, 1, 1, "measured")
    assert (both.expected, both.low, both.high, both.source) == (11, 6, 21, "guessed; measured")
    assert str(Seconds(10, 5, 400, "")) == "5 s to 7 min"
    assert str(Seconds(10, 10, 10.1, "")) == "10 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "1 s"), (4.4, "4 s"), (37, "40 s"), (88, "90 s"), (100, "1.5 min"), (420, "7 min"), (5000, "80 min"),
     (5500, "1.5 h"), (40_000, "10 h"), (200_000, "2.5 days"), (3_000_000, "30 days")],
)  # fmt: skip
def test_times_have_no_false_digits(seconds: float, text: str) -> None:
    assert about(seconds) == text
