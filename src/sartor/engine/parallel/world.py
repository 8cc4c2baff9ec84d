"""The processes that train together: sums over them, and JSON between them. One process alone costs nothing.

    world = join(os.environ)          # ALONE where no launcher set WORLD_SIZE
    world.sum_([loss, weight])        # in place, the same numbers on every rank
    every = world.gather({"loss": 1}) # a list by rank, on every rank

Nothing but tensors and JSON travels between ranks; torch's collectives for objects, which can run code, are not used.
Every rank must call the same functions in the same order. A rank that waits longer than the timeout raises.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from sartor.errors import (
    DataError,
    InputError,
    Interrupted,
    ModelError,
    Problem,
    RecipeError,
    RunError,
    SartorError,
    TokenError,
    TrainingStopped,
)

T = TypeVar("T")
FAULTS = {
    kind.__name__: kind
    for kind in (
        SartorError,
        InputError,
        RecipeError,
        DataError,
        TokenError,
        ModelError,
        RunError,
        TrainingStopped,
        Interrupted,
    )
}
TIMEOUT = 600.0
"""Seconds that a rank waits for the others in one exchange."""


@dataclass(frozen=True, slots=True)
class World:
    """One process among `size`, numbered `rank` from 0; `device` is where its tensors for the others have to lie."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    local_rank: int = 0
    """Number of the process on its machine, which is also the number of its GPU."""

    @property
    def alone(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes what only one may write."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Add up each tensor over all ranks, in place. They may lie anywhere; same shapes and types on every rank."""
        if self.alone:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            mine = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.detach().reshape(-1).to(self.device) for tensor in mine])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in mine])
            for tensor, part in zip(mine, parts, strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def barrier(self) -> None:
        """Return when every rank has come here."""
        self.sum_([torch.zeros(1, device=self.device)])

    def gather(self, value: Any) -> list[Any]:
        """Each rank's JSON value, in the order of the ranks, on every rank; numbers may be NaN or infinite."""
        text = json.dumps(value).encode()
        if self.alone:
            return [json.loads(text)]
        lengths = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(text)
        dist.all_reduce(lengths)
        sizes: list[int] = lengths.tolist()
        every = torch.zeros(self.size, max(sizes), dtype=torch.uint8)
        every[self.rank, : len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self.sum_([every])
        return [json.loads(row[:size].tobytes()) for row, size in zip(every.numpy(), sizes, strict=True)]

    def broadcast(self, value: Any, source: int = 0) -> Any:
        """The JSON value of rank `source`, on every rank; what the others pass is ignored."""
        return self.gather(value if self.rank == source else None)[source]

    def settle(self, fault: SartorError | None) -> None:
        """Raise on every rank when any of them met a fault, so that none waits for one that gave up.

        Where several did, the lowest rank's is raised everywhere, as the same class with the same problems.
        """
        mine = None
        if fault is not None:
            mine = {"kind": type(fault).__name__, "problems": [problem.json() for problem in fault.problems]}
        for rank, found in enumerate(self.gather(mine)):
            if found is not None:
                if fault is not None and rank == self.rank:
                    raise fault
                raise FAULTS[found["kind"]](*(_problem(entry, rank) for entry in found["problems"]))

    def each(self, work: Callable[[], Any]) -> list[Any]:
        """The JSON values that `work` returned on each rank, on every rank; a SartorError of one is raised on all."""
        if self.alone:
            return [work()]
        value, fault = None, None
        try:
            value = work()
        except SartorError as error:
            fault = error
        self.settle(fault)
        return self.gather(value)

    def lead(self, work: Callable[[], T]) -> T:
        """The JSON value that `work` returned on rank 0, the only one to call it, on every rank; so is its SartorError."""
        if self.alone:
            return work()
        value: T = self.each(work if self.first else _nothing)[0]
        return value


ALONE = World()
"""One process."""


def join(environ: Mapping[str, str], *, device: str = "cpu", timeout: float = TIMEOUT) -> World:
    """Meet the other processes that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT of `environ` speak of.

    `device` is cpu (talks by gloo) or cuda (by nccl; the GPU numbered LOCAL_RANK becomes the current one). Without
    WORLD_SIZE, or with 1, it is `ALONE`. Raises InputError P101 for variables that make no sense, SartorError P102 when
    the others do not come within `timeout` seconds, P103 when not exactly the wanted ranks came.
    """
    size = _number(environ, "WORLD_SIZE", 1)
    if size <= 1:
        return ALONE
    rank, local = _number(environ, "RANK"), _number(environ, "LOCAL_RANK", 0)
    host, port = environ.get("MASTER_ADDR", ""), _number(environ, "MASTER_PORT")
    if not host or not 0 <= rank < size:
        raise InputError(
            Problem(
                "P101",
                f"rank {rank} of {size} with MASTER_ADDR={host!r} cannot join",
                fix="use torchrun or --processes",
            )
        )
    place = torch.device("cpu")
    if device == "cuda":
        if local >= torch.cuda.device_count():
            what = f"rank {rank} wants GPU {local}, this machine has {torch.cuda.device_count()}"
            raise InputError(Problem("P101", what, fix="start as many processes on a machine as it has GPUs"))
        torch.cuda.set_device(local)
        place = torch.device("cuda", local)
    try:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=f"tcp://{host}:{port}",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
        world = World(rank, size, place, local)
        ranks = world.gather(rank)
    except dist.DistError as fault:
        what = f"rank {rank} of {size} could not meet the others at {host}:{port} within {timeout:g} s: {fault}"
        raise SartorError(Problem("P102", what.splitlines()[0], fix="see why the other ranks did not start")) from fault
    if dist.get_world_size() != size or ranks != list(range(size)):
        raise SartorError(Problem("P103", f"wanted ranks 0 to {size - 1}, met {ranks}"))
    return world


def leave() -> None:
    """Say goodbye to the other ranks; harmless without any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def end(code: int) -> NoReturn:
    """End this process with `code`; at once where it is still tied to other ranks.

    Threads that wait for a lost rank cannot be joined, and a process that ends around them is aborted now and then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if dist.is_available() and dist.is_initialized():
        os._exit(code)
    sys.exit(code)


def _nothing() -> None:
    """The work of a rank that only listens."""


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise InputError(Problem("P101", f"{name}={text!r} is not a number", fix="use torchrun or --processes"))
    return int(text)


def _problem(entry: Mapping[str, Any], rank: int) -> Problem:
    fields = {key: value for key, value in entry.items() if key not in ("message", "rows")}
    return Problem(what=f"rank {rank}: {entry['message']}", rows=tuple(entry["rows"]), **fields)
