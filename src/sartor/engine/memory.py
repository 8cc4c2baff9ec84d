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

    Until the first step is done, every tensor of `APART` bytes gets pages of its own. That is slower, but what is made then and
    stays (the optimiser's state, oneDNN's kernels) does not come to lie between activations, where it would part the heap.
    """

    GROWTH = 1.2
    ROOM = 256 << 20
    APART, TOGETHER = 256 << 10, 32 << 20
    """Bytes from which on a block gets pages of its own, before and after; the second is the most that glibc allows."""
    KEPT = 64 << 20
    """Bytes at the end of the heap that it does not return by itself: twice `TOGETHER`, as it chooses when left alone."""
    TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
    """M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""

    def __init__(self, device: torch.device) -> None:
        library = ctypes.CDLL(None) if device.type == "cpu" and sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)
        self._set = getattr(library, "mallopt", None) if self._trim is not None else None
        self._least: int | None = None
        if self._set is not None:
            self._set(self.MMAP_THRESHOLD, self.APART)

    def settle(self) -> None:
        """Between two steps: return what is freed where it has become much."""
        if self._set is not None:
            self._join()
            return
        now = resident() if self._trim is not None else None
        if now is None:
            return
        self._least = now if self._least is None else min(self._least, now)
        if now > self.GROWTH * self._least + self.ROOM:
            self.give_back()

    def _join(self) -> None:
        """From now on blocks lie together on the heap. What is held at this moment says nothing about later steps."""
        if self._set is not None:
            self._set(self.MMAP_THRESHOLD, self.TOGETHER)
            self._set(self.TRIM_THRESHOLD, self.KEPT)
            self._set = None

    def give_back(self) -> None:
        """Return everything that is freed."""
        self._join()
        if self._trim is not None:
            self._trim(0)
