"""A fault at every single file operation of a training loop; afterwards the same command ends as if nothing had been."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sartor
from sartor.errors import SartorError
from sartor.store import atomic
from sartor.store.checkpoint import Checkpoints
from sartor.store.log import unbroken
from sartor.store.run import Run

STEPS = 4
SCRIPT = Path(__file__).parent / "saving_loop.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sartor.__file__).parents[1])}
LEFTOVERS = (atomic.TEMPORARY, atomic.DELETED, atomic.OLD, ".corrupt-")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("saving_loop", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


loop = _load()


class Machine:
    """Runs sessions of the loop in processes that can die."""

    def __init__(self, root: Path) -> None:
        self.root, self.number = root, 0
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def fresh(self) -> Path:
        self.number += 1
        place = self.root / str(self.number)
        place.mkdir()
        return place / "run"

    def session(self, folder: Path, fault: str = "none", at: int = 0) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"folder": str(folder), "fault": fault, "at": at, "steps": STEPS}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def plain_checkpoints(folder: Path) -> list[int]:
    """Every checkpoint under its plain name must be whole, right after the fault and before anything is mended."""
    steps = []
    for path in sorted((folder / "checkpoints").glob("step-*")):
        step = int(path.name.removeprefix("step-"))
        assert atomic.verify(path) == [], path
        assert (path / "adapter" / "adapter.bin").read_bytes() == loop.weights(step)
        steps.append(step)
    mark = folder / "checkpoints" / "best"
    if mark.exists():
        assert json.loads(mark.read_bytes())["checkpoint"] in [f"step-{step:06d}" for step in steps]
    return steps


def finishes(machine: Machine, folder: Path) -> None:
    """The same command again ends well, with the weights, checkpoints and log of a run that was never hurt."""
    assert machine.session(folder)["error"] is None
    # Step 3 is there still when the kill came between the last save and its rotation.
    assert plain_checkpoints(folder) in ([2, 4], [2, 3, 4])
    found: list[str] = []
    checkpoints = Checkpoints(folder / "checkpoints", lambda note: found.append(note.message), owner="ab" * 32)
    assert checkpoints.best() == checkpoints.newest() == checkpoints.path(4)
    assert not found
    left = [path for path in folder.rglob("*") if path.name.startswith(LEFTOVERS)]
    assert not left
    run = Run.open(folder)
    assert run.state == "finished"
    assert run.read_json("verdict.json") == {"pass": True}
    assert [event["step"] for event in unbroken(run.events()) if event["event"] == "step"] == [1, 2, 3, 4]


def operations(machine: Machine, kinds: Collection[str] = ()) -> list[int]:
    """The numbers of a session's file operations, or of those of some kinds."""
    folder = machine.fresh()
    answer = machine.session(folder, "none")
    assert answer["error"] is None
    finishes(machine, folder)
    assert len(answer["operations"]) > 100
    assert set(kinds) <= set(answer["operations"])
    return [at for at, kind in enumerate(answer["operations"], start=1) if not kinds or kind in kinds]


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [("kill", ()), ("torn", ("write",)), ("power", ()), ("power_data", ("rename",))],
    ids=["kill", "torn", "power", "power, names kept"],
)
def test_death_at_every_operation(machine: Machine, fault: str, kinds: Collection[str]) -> None:
    for at in operations(machine, kinds):
        folder = machine.fresh()
        assert machine.session(folder, fault, at)["exit"] == -signal.SIGKILL
        before = plain_checkpoints(folder)
        finishes(machine, folder)
        taken = [event["step"] for event in Run.open(folder).events() if event["event"] == "step"]
        assert len(taken) <= STEPS + 1, (at, before, taken)


@pytest.mark.parametrize(
    ("faults", "code", "kinds"),
    [(("enospc", "enospc_once"), "F130", loop.GROWING), (("eio",), "F131", ())],
    ids=["disk full", "input/output error"],
)
def test_error_at_every_operation(machine: Machine, faults: Sequence[str], code: str, kinds: Collection[str]) -> None:
    refused = 0
    for at in operations(machine, kinds):
        folder = machine.fresh()
        answer = machine.session(folder, faults[at % len(faults)], at)
        assert answer["exit"] == 0
        assert answer["error"] in (code, None), answer["error"]
        refused += answer["error"] is not None
        plain_checkpoints(folder)
        if answer["error"] == "F130":
            assert not [path for path in folder.rglob(".*") if path.name.startswith(atomic.TEMPORARY)]
        if answer["error"] is not None:
            finishes(machine, folder)
    assert refused > 50


def test_death_during_recovery(machine: Machine) -> None:
    """Kill, kill again while the leftovers are cleared, and a third time."""
    chance = random.Random(7)
    last = len(operations(machine))
    for _ in range(25):
        folder = machine.fresh()
        for at in (chance.randint(1, last), chance.randint(1, 25), chance.randint(1, 25)):
            machine.session(folder, chance.choice(["kill", "torn", "power", "power_data"]), at)
            plain_checkpoints(folder)
        finishes(machine, folder)


def test_kill_at_random_moments(machine: Machine) -> None:
    """A real process, killed by the clock; its lock goes with it."""
    chance = random.Random(11)
    for _ in range(6):
        folder = machine.fresh()
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); import saving_loop, pathlib; print(flush=True); "
            "saving_loop.train(pathlib.Path(sys.argv[2]), 4)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(SCRIPT.parent), str(folder)], stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        process.wait()
        process.stdout.close()
        plain_checkpoints(folder)
        finishes(machine, folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a tmpfs needs root and mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """Refused before writing when the last checkpoint tells the size, after writing when nothing does; then room is made."""
    ballast = small_disk / "ballast"
    checkpoints = Checkpoints(small_disk / "checkpoints", lambda note: None)
    writers = {"weights.bin": lambda path: path.write_bytes(b"w" * 150_000)}
    ballast.write_bytes(b"x" * 400_000)
    with pytest.raises(
        SartorError, match=r"F130: the disk is full: step-000001 needs at least [\d,]+ bytes, [\d,]+ are"
    ):
        checkpoints.save(1, writers, keep=1)
    assert checkpoints.newest() is None
    ballast.unlink()
    checkpoints.save(1, writers, keep=1)
    ballast.write_bytes(b"x" * 250_000)
    with pytest.raises(SartorError, match="F130: the disk is full: step-000002 needs at least 150,000 bytes"):
        checkpoints.save(2, {"weights.bin": lambda path: pytest.fail("must be refused before writing")}, keep=1)
    assert sorted(path.name for path in (small_disk / "checkpoints").iterdir()) == ["step-000001"]
    ballast.unlink()
    checkpoints.save(2, writers, keep=1)
    assert checkpoints.newest() == checkpoints.path(2)


def test_a_file_size_limit_counts_as_a_full_disk(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from sartor.errors import SartorError
from sartor.store.checkpoint import Checkpoints
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
checkpoints = Checkpoints(Path(sys.argv[1]), print)
try:
    checkpoints.save(1, {"weights.bin": lambda path: path.write_bytes(bytes(9000))}, keep=1)
except SartorError as fault:
    print(fault.problems[0].code, fault.exit_code, sorted(path.name for path in checkpoints.folder.iterdir()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout == "F130 3 []\n"
