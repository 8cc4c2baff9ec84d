"""Ray as a launcher: it places the processes; each is the command that torchrun would run, with the same variables.

    ray://local        a cluster of this machine, for as long as the run takes
    ray://auto         the cluster that this machine belongs to
    ray://HOST:PORT    a cluster reached through its Ray client port, usually 10001

All machines need Sartor, the same Python, and this folder and the run's on a file system that they share. Nothing but
command lines and what they print travels through Ray; tensors go from rank to rank as always.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from sartor.errors import InputError, Problem, SartorError
from sartor.events import Noted
from sartor.flow.processes import PARENT
from sartor.flow.signals import Stop

if TYPE_CHECKING:
    from sartor.flow.prepare import Emit

SCHEME = "ray://"
GONE_WELL = (0, 1, 130, None)
"""Exit codes of a rank that say nothing more than rank 0 does."""
RESUME = "the last checkpoint is good; the same command resumes from it"
CONNECTING = "the Ray client port is usually 10001; a cluster with a token needs RAY_AUTH_MODE=token and the token here"
STREAMS = ("stdout", "stderr")
POLL = 0.25
PLACING = 300.0
"""Seconds that Ray has to place the processes."""
PARTING = 10.0
"""Seconds that the others have to go when rank 0 has."""
STORE_BYTES = 128 << 20
"""Ray's object store in a cluster of our own; nothing is kept in it."""


class Seat:
    """One process on a machine of the cluster, held by a Ray actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._files: dict[str, IO[bytes]] = {}

    def place(self) -> tuple[str, str, int]:
        """(node, address, a free port of it)."""
        ray = _ray()
        with socket.socket() as probe:
            probe.bind(("", 0))
            port: int = probe.getsockname()[1]
        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), port

    def start(self, words: Sequence[str], folder: str, environ: Mapping[str, str]) -> None:
        """Run Sartor with these arguments in `folder`. It ends with this actor."""
        self._files = {name: tempfile.TemporaryFile() for name in STREAMS}  # noqa: SIM115  open as long as the seat
        self._process = subprocess.Popen(  # noqa: S603  a list, without a shell
            [sys.executable, "-m", "sartor", *words],
            cwd=folder,
            env={**os.environ, **environ, PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=self._files["stdout"],
            stderr=self._files["stderr"],
        )

    def look(self, seen: Mapping[str, int]) -> tuple[int | None, dict[str, bytes]]:
        """(exit code once it has ended, what it has printed on stdout and stderr beyond the `seen` bytes)."""
        assert self._process is not None
        code = self._process.poll()
        sizes = {name: os.fstat(file.fileno()).st_size for name, file in self._files.items()}
        return code, {
            name: os.pread(file.fileno(), sizes[name] - seen[name], seen[name]) for name, file in self._files.items()
        }

    def stop(self) -> None:
        """Ask it to save and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


def run_on(address: str, processes: int | None, words: Sequence[str], emit: Emit) -> int:
    """Run ``sartor WORDS`` on `processes` places of a Ray cluster; what rank 0 prints is printed here. Returns its exit code.

    Without a number there is one process for each GPU, or for each machine where there are none. Raises InputError P121
    (Ray is not installed), P122 (no such cluster) or P123 (too small).
    """
    ray = _ray()
    _connect(ray, address, processes)
    try:
        with Stop() as stop:
            stop.training = True
            seats, environs = _seats(ray, processes, emit)
            folder = str(Path.cwd())
            _each(ray, [seat.start.remote(list(words), folder, own) for seat, own in zip(seats, environs, strict=True)])
            return _follow(ray, seats, stop)
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as fault:
        fix = 'pip install "sartor[ray]" here and on every machine of the cluster'
        raise InputError(Problem("P121", "--on ray:// needs Ray, which is not installed", fix=fix)) from fault
    return ray


def _connect(ray: Any, address: str, processes: int | None) -> None:
    where = address.removeprefix(SCHEME)
    if not address.startswith(SCHEME) or not where:
        fix = "--on ray://local, ray://auto or ray://HOST:PORT"
        raise InputError(Problem("P122", f'"{address}" is not the address of a Ray cluster', fix=fix))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if where == "local":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            ray.init(
                address="local",
                num_cpus=processes or 1,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                **quiet,
            )
        elif where == "auto":
            ray.init(address="auto", **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ImportError) as fault:
        what = f"no Ray cluster answers at {address}: {str(fault).splitlines()[0]}"
        raise InputError(Problem("P122", what, fix=CONNECTING)) from fault


def _seats(ray: Any, processes: int | None, emit: Emit) -> tuple[list[Any], list[dict[str, str]]]:
    """The actors, and the variables of the rank that each of them holds."""
    there = ray.cluster_resources()
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    machines = sum(node["Alive"] for node in ray.nodes())
    size = processes or gpus or machines
    if processes is None:
        why = f"one for each of {gpus} GPUs" if gpus else f"one for each of {machines} machines, which have no GPU"
        emit(Noted("info", "P124", f"{size} processes: {why}"))
    room = gpus or cpus
    if size > room:
        what = f"{size} processes were asked for, the cluster has room for {room} ({gpus} GPUs, {cpus} CPUs)"
        raise InputError(Problem("P123", what, fix=f"--processes {room}, or a larger cluster"))
    actor = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Seat)
    seats = [actor.remote() for _ in range(size)]
    try:
        places = ray.get([seat.place.remote() for seat in seats], timeout=PLACING)
    except ray.exceptions.GetTimeoutError as fault:
        what = f"Ray has not placed {size} processes within {PLACING:g} s"
        raise SartorError(Problem("P123", what, fix="see `ray status`; others may be using the cluster")) from fault
    order = sorted(range(size), key=lambda index: (places[index][0] != places[0][0], places[index][0], index))
    nodes = [places[index][0] for index in order]
    _, host, port = places[0]
    environs = [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": "0" if gpus else str(nodes[:rank].count(node)),
            "LOCAL_WORLD_SIZE": str(nodes.count(node)),
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
        }
        for rank, node in enumerate(nodes)
    ]
    return [seats[index] for index in order], environs


def _follow(ray: Any, seats: Sequence[Any], stop: Stop) -> int:
    """Print what rank 0 prints until it has ended; then let the others end, and print why they failed where they did."""
    heard = [{"stdout": b"", "stderr": b""} for _ in seats]
    asked, until = False, float("inf")
    while True:
        if stop.asked() and not asked:
            asked = True
            _each(ray, [seat.stop.remote() for seat in seats])
        seen = [{name: len(text) for name, text in each.items()} for each in heard]
        looks = _each(ray, [seat.look.remote(each) for seat, each in zip(seats, seen, strict=True)])
        for rank, (_, printed) in enumerate(looks):
            for name, text in printed.items():
                heard[rank][name] += text
                if rank == 0:
                    _print(getattr(sys, name), text)
        codes = [code for code, _ in looks]
        if codes[0] is not None:
            until = min(until, time.monotonic() + PARTING)
            if None not in codes or time.monotonic() > until:
                break
        time.sleep(POLL)
    for rank, code in enumerate(codes):
        if rank and code not in GONE_WELL and heard[rank]["stderr"]:
            _print(sys.stderr, f"rank {rank}: ".encode() + heard[rank]["stderr"])
    return int(codes[0])


def _each(ray: Any, calls: Sequence[Any]) -> list[Any]:
    """The answers of all seats, by rank. Raises SartorError P110 for a seat that is gone."""
    answers = []
    for rank, call in enumerate(calls):
        try:
            answers.append(ray.get(call))
        except ray.exceptions.RayError as fault:
            reason = str(fault).splitlines()[0]
            what = f"rank {rank} of {len(calls)} was lost with its machine, or with Ray's process there: {reason}"
            raise SartorError(Problem("P110", what, fix=RESUME)) from fault
    return answers


def _print(stream: TextIO, text: bytes) -> None:
    stream.write(text.decode("utf-8", "replace"))
    stream.flush()
