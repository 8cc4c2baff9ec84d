"""`kill -9` of a run at any moment costs time, never numbers: the finished run is equal to an unbroken one, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import job
import pytest
from job import Done, finish

from sartor.flow.run import run

METHODS = ("lora", "full")
STEPS = 80


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """A run of each method that nobody disturbed."""
    home = tmp_path_factory.mktemp("unbroken")
    model = job.save_model(home / "model")
    train = {"steps": STEPS, "validation": {"every": 10}, "checkpoint": {"every": 7}, "stop": {"patience": 0}}
    return {name: finish(home / name, job.recipe(model, method=name, train=train)) for name in METHODS}


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        job.command("run", recipe, "--out", out, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=job.ENVIRONMENT,
    )  # fmt: skip


def kill_after_step(recipe: Path, out: Path, step: int, delay: float) -> None:
    """Start the run, and end it without warning `delay` seconds after it has taken `step`."""
    process = start(recipe, out)
    job.wait_for_step(process, out, step)
    time.sleep(delay)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended before it was killed"


def same(left: Path, right: Path) -> list[str]:
    """Names of files that decide something and differ."""
    names = [path.name for path in sorted((left / "model").glob("*.safetensors"))]
    assert names
    files = [f"model/{name}" for name in names] + [
        f"predictions/{name}.jsonl" for name in ("base", "few_shot", "tuned")
    ]
    wrong = [name for name in files if (left / name).read_bytes() != (right / name).read_bytes()]
    results = [told(folder) for folder in (left, right)]
    return wrong if results[0] == results[1] else [*wrong, "verdict.json"]


def told(folder: Path) -> Any:
    """What the verdict says apart from how long it took and where it lies."""
    verdict = json.loads((folder / "verdict.json").read_text())
    kept = ("steps", "best_step", "tokens", "supervised_tokens")
    return {**verdict, "model": None, "train": {key: verdict["train"][key] for key in kept}}


@pytest.mark.parametrize("method", METHODS)
def test_killed_in_training_and_run_again_is_bit_identical(
    method: str, unbroken: dict[str, Done], tmp_path: Path
) -> None:
    dice = random.Random(time.time_ns())
    step, delay = dice.randint(2, STEPS // 2), dice.uniform(0, 0.2)
    out = tmp_path / "out"
    kill_after_step(unbroken[method].recipe, out, step, delay)
    again = run(unbroken[method].recipe, out, (), (), lambda event: None)
    assert not again.resumed_finished
    assert same(out, unbroken[method].folder) == [], f"killed {delay:.3f} s after step {step}"


def test_one_other_bit_would_be_seen(unbroken: dict[str, Done], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(unbroken["full"].folder, copy)
    weights = copy / "model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert same(copy, unbroken["full"].folder) == ["model/model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_five_times_at_any_moment(method: str, seed: int, unbroken: dict[str, Done], tmp_path: Path) -> None:
    """Twenty kills in all: while reading, measuring, training, publishing and judging."""
    dice = random.Random(f"{method}{seed}{time.time_ns()}")
    recipe, out = unbroken[method].recipe, tmp_path / "out"
    moments = []
    kills = 0
    while kills < 5:
        process = start(recipe, out)
        if dice.random() < 0.3:
            moment = f"{(pause := dice.uniform(0.3, 6.0)):.3f} s after the start"
            time.sleep(pause)
        else:
            goal = min(STEPS - 1, job.steps_taken(out) + dice.randint(1, 16))
            moment = f"{(pause := dice.uniform(0, 0.1)):.3f} s after step {goal}"
            until = time.monotonic() + 120
            while process.poll() is None and job.steps_taken(out) < goal and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(pause)
        process.kill()
        _, stderr = process.communicate()
        moments.append(moment)
        if process.returncode == 0:
            assert kills, "the run ended before anything could disturb it"
            break
        assert process.returncode == -signal.SIGKILL, stderr
        kills += 1
    run(recipe, out, (), (), lambda event: None)
    assert same(out, unbroken[method].folder) == [], moments
