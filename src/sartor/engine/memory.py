"""How much memory this process has used at most, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Bytes: the GPU allocator's peak, or the process's largest resident size on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def give_back(device: torch.device) -> None:
    """Return freed memory to the system.

    glibc keeps freed blocks, and batches of ever new sizes leave it with ever more that do not fit: training on a CPU grew
    by a gigabyte in forty steps. Other allocators and GPUs need none of this.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if device.type == "cpu" and sys.platform == "linux" else None
    if trim is not None:
        trim(0)
