"""`sartor run` over several processes: the numbers of one process, and an end for everyone when one of them ends."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import job
import pytest
from job import Done, finish
from safetensors.torch import load_file

from sartor.cli import run as run_command
from sartor.engine.parallel.heart import VARIABLE
from sartor.errors import InputError
from sartor.flow.launch import Launch
from sartor.flow.run import run

STEPS = 60
LIMIT = 5
ALONE = {name: value for name, value in job.ENVIRONMENT.items() if name not in ("RANK", "WORLD_SIZE")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run in one process that nobody disturbed."""
    home = tmp_path_factory.mktemp("alone")
    model = job.save_model(home / "model")
    body = job.recipe(
        model,
        base={"model": str(model), "dtype": "float32"},
        method={"lora": {"rank": 4}},
        train={
            "steps": STEPS,
            "optimizer": {"adamw": {"learning_rate": 0.003}},
            "validation": {"every": 20},
            "checkpoint": {"every": 5},
            "stop": {"patience": 0},
        },
        evaluate={"metrics": ["perplexity"], "against": ["base"], "max_new_tokens": 2},
    )
    return finish(home / "job", body)


def start(recipe: Path, out: Path, *words: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        job.command("run", recipe, "--out", out, "--json", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ALONE, VARIABLE: str(LIMIT), **environ},
        start_new_session=True,
    )


@pytest.fixture
def pair(alone: Done, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of two processes that has taken some steps."""
    process = start(alone.recipe, tmp_path / "out", "--processes", "2")
    try:
        job.wait_for_step(process, tmp_path / "out", 7)
        yield process
    finally:
        process.kill()
        process.communicate()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that it has started."""
    found = []
    try:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if b"sartor" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def gone(pid: int, *, seconds: float = 5.0) -> bool:
    """Whether a process ends within some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def largest_difference(one: Path, other: Path) -> float:
    """Between the trained weights of two runs."""
    left, right = (load_file(folder / "model/adapter_model.safetensors") for folder in (one, other))
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def resumes_to(alone: Done, out: Path, *words: str) -> None:
    """The same command, with or without several processes, ends with the weights of the run that nobody disturbed."""
    if words:
        again = start(alone.recipe, out, *words)
        stdout, stderr = again.communicate(timeout=120)
        assert again.returncode == 0, stderr
        assert json.loads(stdout)["pass"]
    else:
        assert not run(alone.recipe, out, (), (), lambda event: None).resumed_finished
    assert steps_logged(out)[0] == 1
    assert steps_logged(out)[-1] == STEPS
    assert largest_difference(alone.folder, out) < 1e-6


def steps_logged(out: Path) -> list[int]:
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [event["step"] for event in events if event["event"] == "step"]


def checkpoints(out: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (out / "stages/0-sft/checkpoints").glob("step-*"))


@pytest.mark.slow
def test_two_processes_give_what_one_gives(alone: Done, tmp_path: Path) -> None:
    process = start(alone.recipe, tmp_path / "out", "--processes", "2")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    out = tmp_path / "out"
    assert largest_difference(alone.folder, out) < 1e-6
    verdict, before = json.loads(stdout), json.loads((alone.folder / "verdict.json").read_text())
    for key in ("steps", "best_step", "tokens", "supervised_tokens"):
        assert verdict["train"][key] == before["train"][key], key
    assert steps_logged(out) == list(range(1, STEPS + 1))
    assert not list(out.rglob("rank-*.log")), "a log of a rank that said nothing is left"


def test_a_killed_process_is_named_and_one_process_resumes(
    pair: subprocess.Popen[str], alone: Done, tmp_path: Path
) -> None:
    (worker,) = workers(pair)
    os.kill(worker, signal.SIGKILL)
    began = time.monotonic()
    stdout, stderr = pair.communicate(timeout=60)
    assert time.monotonic() - began < LIMIT + 10
    assert pair.returncode == 3, stderr
    assert "error P110: rank 1 of 2 was ended by SIGKILL; the last step it told of is " in stderr
    assert "Traceback" not in stderr
    assert json.loads(stdout)["error"]["problems"][0]["code"] == "P110"
    resumes_to(alone, tmp_path / "out")


@pytest.mark.slow
def test_sigterm_saves_and_ends_all(pair: subprocess.Popen[str], tmp_path: Path) -> None:
    (worker,) = workers(pair)
    pair.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, stderr = pair.communicate(timeout=60)
    assert pair.returncode == 130, stderr
    assert time.monotonic() - began < 10
    assert "F150" in stderr
    assert gone(worker)
    assert checkpoints(tmp_path / "out")[-1] == steps_logged(tmp_path / "out")[-1]


@pytest.mark.slow
def test_sigint_to_the_group_saves_and_two_processes_resume(
    pair: subprocess.Popen[str], alone: Done, tmp_path: Path
) -> None:
    os.killpg(pair.pid, signal.SIGINT)
    _, stderr = pair.communicate(timeout=60)
    assert pair.returncode == 130, stderr
    out = tmp_path / "out"
    assert checkpoints(out)[-1] == steps_logged(out)[-1]
    resumes_to(alone, out, "--processes", "2")


@pytest.mark.slow
def test_a_stopped_process_is_named_and_two_processes_resume(
    pair: subprocess.Popen[str], alone: Done, tmp_path: Path
) -> None:
    (worker,) = workers(pair)
    os.kill(worker, signal.SIGSTOP)
    began = time.monotonic()
    _, stderr = pair.communicate(timeout=60)
    assert time.monotonic() - began < LIMIT + 10
    assert pair.returncode == 3, stderr
    assert "error P110: rank 1 of 2 has not been heard of for 5 s; the last step it told of is " in stderr
    assert "Traceback" not in stderr
    assert gone(worker)
    resumes_to(alone, tmp_path / "out", "--processes", "2")


@pytest.mark.slow
def test_killed_and_stopped_at_any_moment_it_resumes_to_the_same_bits(alone: Done, tmp_path: Path) -> None:
    whole = start(alone.recipe, tmp_path / "whole", "--processes", "2")
    assert whole.wait(timeout=120) == 0
    dice, out, moments = random.Random(time.time_ns()), tmp_path / "out", []
    for _ in range(6):
        process = start(alone.recipe, out, "--processes", "2")
        until = time.monotonic() + 60
        while process.poll() is None and not workers(process) and time.monotonic() < until:
            time.sleep(0.01)
        fault, pause = dice.choice((signal.SIGKILL, signal.SIGSTOP)), dice.uniform(0, 8)
        time.sleep(pause)
        for worker in workers(process):
            os.kill(worker, fault)
            moments.append(f"{fault.name} {pause:.3f} s after the start")
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in (0, 3), f"{moments}: {stderr}"
        assert process.returncode == 0 or "error P110: rank 1 of 2" in stderr, f"{moments}: {stderr}"
    again = start(alone.recipe, out, "--processes", "2")
    assert again.wait(timeout=120) == 0, moments
    weights = "model/adapter_model.safetensors"
    assert (tmp_path / "whole" / weights).read_bytes() == (out / weights).read_bytes(), moments


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_no_process_outlives_the_first(stopped: bool, pair: subprocess.Popen[str]) -> None:
    (worker,) = workers(pair)
    if stopped:
        os.kill(worker, signal.SIGSTOP)
    pair.kill()
    assert gone(worker)


@pytest.mark.slow
def test_shards_give_what_one_process_gives(alone: Done, tmp_path: Path) -> None:
    process = start(alone.recipe, tmp_path / "out", "--processes", "2", "train.parallel=fsdp2")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert largest_difference(alone.folder, tmp_path / "out") < 1e-6


@pytest.mark.slow
def test_shards_resume_what_copies_began(pair: subprocess.Popen[str], alone: Done, tmp_path: Path) -> None:
    pair.send_signal(signal.SIGTERM)
    assert pair.wait(timeout=60) == 130
    resumes_to(alone, tmp_path / "out", "--processes", "2", "train.parallel=fsdp2")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(*words: str | Path) -> list[str]:
    elastic = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return [*elastic, "--master-addr", "127.0.0.1", "--master-port", free_port(), "-m", "sartor", *map(str, words)]


@pytest.mark.slow
def test_torchrun_gives_what_one_process_gives(alone: Done, tmp_path: Path) -> None:
    out = tmp_path / "out"
    environ = {**ALONE, "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        torchrun("run", alone.recipe, "--out", out), capture_output=True, text=True, timeout=180, env=environ
    )
    assert done.returncode == 0, done.stderr
    assert "P120" in done.stderr, "nobody said that rank 1 waits"
    assert largest_difference(alone.folder, out) < 1e-6
    again = subprocess.run(
        torchrun("run", alone.recipe, "--out", out), capture_output=True, text=True, timeout=180, env=environ
    )
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stdout


@pytest.mark.slow
def test_under_torchrun_everyone_ends_when_the_recipe_is_wrong(alone: Done, tmp_path: Path) -> None:
    done = subprocess.run(
        torchrun("run", alone.recipe, "train.stepz=3", "--out", tmp_path / "out"),
        capture_output=True, text=True, timeout=120, env={**ALONE, "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "R102" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs the extra: pip install "sartor[ray]"')
class TestRay:
    """A cluster of this machine."""

    def test_it_gives_what_one_process_gives(self, alone: Done, tmp_path: Path) -> None:
        process = start(alone.recipe, tmp_path / "out", "--processes", "2", "--on", "ray://local")
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
        assert json.loads(stdout)["pass"]
        assert "step 20/60" in stderr
        assert largest_difference(alone.folder, tmp_path / "out") < 1e-6

    def test_sigterm_saves_and_one_process_resumes(self, alone: Done, tmp_path: Path) -> None:
        process = start(alone.recipe, tmp_path / "out", "--processes", "2", "--on", "ray://local")
        job.wait_for_step(process, tmp_path / "out", 7)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert checkpoints(tmp_path / "out")[-1] == steps_logged(tmp_path / "out")[-1]
        resumes_to(alone, tmp_path / "out")

    def test_a_cluster_that_is_not_there_is_refused(self, alone: Done, tmp_path: Path) -> None:
        process = start(alone.recipe, tmp_path / "out", "--on", f"ray://127.0.0.1:{free_port()}")
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2, stderr
        assert "P122" in stderr
        assert "Traceback" not in stderr


def refusal(*words: Any, **environ: str) -> str:
    """What is said of a command line that is refused before anything happens."""
    process = start(Path("recipe.yaml"), Path("nowhere"), *words, **environ)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    return str(json.loads(stdout)["error"]["problems"][0]["code"])


def test_processes_inside_a_launcher_are_refused() -> None:
    inside = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for processes, on in ((2, None), (None, "ray://local")):
        with pytest.raises(InputError, match="P111"):
            Launch.of(processes, inside, on=on)
    with pytest.raises(InputError, match="P101"):
        Launch.of(None, {**inside, "WORLD_SIZE": "two"})
    assert Launch.of(None, inside).size == 2
    assert Launch.of(3, {}).size == 3
    assert Launch.of(None, {}).size == 1
    assert refusal("--processes", "2", **inside) == "P111"


def test_what_is_missing_for_ray_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sartor.flow.cluster import run_on

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'P121.*pip install "sartor\[ray\]"'):
        run_on("ray://local", 2, ["run"], lambda event: None)
    assert "--on" in [option.opts[0] for option in run_command.command.params]


@pytest.mark.slow
def test_a_reward_is_learnt_from_as_in_one_process(tmp_path: Path) -> None:
    """Rounds of answers, judged by a function that compares them and by a metric; whole runs, in fp32."""
    model = job.save_model(tmp_path / "model")
    rewards = ["reward.py:score", {"metric": "exact_match", "weight": 0.5}]
    objective = {"grpo": {"rewards": rewards, "prompts": 5, "samples": 3, "passes": 2, "max_new_tokens": 6}}
    train = {
        "objective": objective,
        "steps": 8,
        "batch": {"examples": 8},
        "validation": {"every": 4},
        "optimizer": {"adamw": {"learning_rate": 0.01}},
    }
    base = {"model": str(model), "dtype": "float32"}
    body = job.recipe(model, base=base, train=train, method={"lora": {"rank": 4}}, goal="Vowels come out") | {
        "evaluate": {"against": ["base"], "resamples": 200}
    }
    done = []
    for processes in ("1", "2"):
        folder = tmp_path / processes
        recipe = job.write(folder, body)
        (folder / "reward.py").write_text(
            "def score(answers, rows):\n    return [len(set(a)) / max(map(len, answers)) for a in answers]\n"
        )
        process = start(recipe, folder / "out", "--processes", processes)
        _, stderr = process.communicate(timeout=240)
        assert process.returncode in (0, 1), stderr
        assert "verdict" in stderr
        done.append(folder / "out")
    assert largest_difference(*done) < 1e-6
    told = [sorted((each / "stages/0-grpo/rounds").iterdir()) for each in done]
    assert len(told[0]) == len(told[1]) == 2
    one, two = ([json.loads(line) for path in paths for line in path.read_text().splitlines()] for paths in told)
    assert [line["answer"] for line in one] == [line["answer"] for line in two]
    for name in ("reward", "kl"):
        assert [line[name] for line in one] == pytest.approx([line[name] for line in two], rel=1e-3, abs=1e-4)
    assert max(abs(line["kl"]) for line in one[-15:]) > 1e-3
