"""How much memory this process has used at most, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

import torch


def peak_memory(device: torch.device) -> int:
    """Bytes: the GPU allocator's peak, or the process's largest resident size on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident() -> int | None:
    """Bytes of memory this process holds now; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * resource.getpagesize()


class Freed:
    """Returns freed memory of a CPU process to the system, whenever it has come to hold much more than it did.

    glibc keeps freed blocks, and batches of ever new sizes leave it with ever more that do not fit: training grew by a
    gigabyte in forty steps. Returning all of it costs page faults, a tenth of a step of a small model, so it is done once the
    process holds a fifth and `ROOM` more than the least it has held after a step. Other allocators need none of this.
    """

    GROWTH = 1.2
    ROOM = 256 << 20

    def __init__(self, device: torch.device) -> None:
        glibc = device.type == "cpu" and sys.platform == "linux"
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if glibc else None
        self._least: int | None = None

    def settle(self) -> None:
        """Between two steps: return what is freed where it has become much."""
        now = resident() if self._trim is not None else None
        if now is None:
            return
        self._least = now if self._least is None else min(self._least, now)
        if now > self.GROWTH * self._least + self.ROOM:
            self.give_back()

    def give_back(self) -> None:
        """Return everything that is freed."""
        if self._trim is not None:
            self._trim(0)
