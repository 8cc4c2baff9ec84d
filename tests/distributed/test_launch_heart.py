"""Ranks that die, hang, or never come are named, with their last step, on all others, within a bounded time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import job
import pytest

from sartor.engine.parallel import heart
from sartor.engine.parallel.meeting import Meeting
from sartor.errors import InputError, SartorError

LIMIT = 3.0
SCRIPT = Path(__file__).with_name("rank_that_sums.py")
Start = Callable[[int, int], list["subprocess.Popen[str]"]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ranks that sum for a number of steps; those still there are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def ranks(size: int, steps: int) -> list[subprocess.Popen[str]]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(size):
            about = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            own = {"GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR", heart.VARIABLE: str(LIMIT)}
            started.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), str(steps)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**job.ENVIRONMENT, **about, **own},
                )
            )
        return started

    yield ranks
    for process in started:
        process.kill()
        process.communicate()


def steps_of(process: subprocess.Popen[str], wanted: int) -> int:
    """Reads until the process has said that it took `wanted` steps."""
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= wanted:
            return int(line)
    raise AssertionError(f"ended before step {wanted}")


@pytest.mark.slow
def test_ranks_that_all_live_end_well(start: Start) -> None:
    ranks = start(2, 5)
    assert [rank.communicate(timeout=60) for rank in ranks] == [("1\n2\n3\n4\n5\n", "")] * 2
    assert [rank.returncode for rank in ranks] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_is_named_on_all_others(fault: signal.Signals, start: Start) -> None:
    ranks = start(3, 100_000)
    step = steps_of(ranks[1], 20)
    ranks[1].send_signal(fault)
    began = time.monotonic()
    for rank in (ranks[0], ranks[2]):
        _, words = rank.communicate(timeout=60)
        assert rank.returncode == heart.FAULT, words
        assert "error P110: rank 1 of 3 has not been heard of for 3 s" in words
        assert "Traceback" not in words
        told = int(words.partition("the last step it told of is ")[2].partition(".")[0])
        assert step - 15 <= told <= step + 15
    assert time.monotonic() - began < LIMIT + heart.GRACE + 2


@pytest.mark.slow
def test_rank_zero_that_hangs_is_named(start: Start) -> None:
    ranks = start(2, 100_000)
    steps_of(ranks[0], 5)
    ranks[0].send_signal(signal.SIGSTOP)
    _, words = ranks[1].communicate(timeout=60)
    assert ranks[1].returncode == heart.FAULT, words
    assert "error P110: rank 0 of 2 has not answered for 3 s" in words


def test_ranks_that_do_not_come_are_named() -> None:
    meeting = Meeting.on_this_machine(4)
    meeting.arrive()
    meeting.tell("here/2", {})
    with pytest.raises(SartorError, match=r"P112: of 4 ranks, 1, 3 did not come within 0\.2 s"):
        meeting.gather(patience=0.2, check=lambda: None)


def test_a_meeting_point_that_is_not_there_is_told_of() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        about = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        with pytest.raises(SartorError, match="P112: rank 1 of 2 could not reach the meeting point"):
            Meeting.reach(about, patience=0.1)


def test_the_meeting_point_of_one_machine_is_not_open_to_others() -> None:
    meeting = Meeting.on_this_machine(2)
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [address for _, address, _, state, *_ in sockets if state == "0A"]
    port = f"{meeting.port:04X}"
    assert [address for address in listening if address.endswith(port)] == [f"0100007F:{port}"]


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "nan"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="P115"):
        heart.limit({heart.VARIABLE: text})
    assert heart.limit({}) == heart.LIMIT
    assert heart.limit({heart.VARIABLE: "7.5"}) == 7.5


@pytest.mark.slow
def test_a_group_that_was_stopped_together_goes_on(start: Start) -> None:
    ranks = start(2, 300)
    steps_of(ranks[0], 5)
    for rank in ranks:
        os.kill(rank.pid, signal.SIGSTOP)
    time.sleep(LIMIT + 1)
    for rank in ranks:
        os.kill(rank.pid, signal.SIGCONT)
    assert [rank.communicate(timeout=60)[1] for rank in ranks] == ["", ""]
    assert [rank.returncode for rank in ranks] == [0, 0]
