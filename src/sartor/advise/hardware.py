"""What this machine offers, found without importing torch: device, number type, threads, memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sartor.options import Auto
from sartor.store import environment

Dtype = Literal["float32", "bfloat16"]
NATIVE_BF16 = ("amx_bf16", "avx512_bf16", "bf16")
SMALL_MODEL = 1_000_000
"""Parameters under which matrix products are not the cost, so that bf16 saves nothing."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine as training sees it. Sizes in bytes."""

    device: str
    cores: int
    memory: int
    """Memory this process may still take."""
    bf16: str | None
    """The processor feature that multiplies bf16 natively, if any."""

    def share(self, processes: int) -> Hardware:
        """As one of several processes on this machine sees it: on a CPU they share the memory, GPUs have their own."""
        return replace(self, memory=self.memory // processes) if self.device == "cpu" else self


def survey() -> Hardware:
    """Look at the processor, the memory and the GPU driver."""
    gpus = Path("/proc/driver/nvidia/gpus")
    device = "cuda" if gpus.is_dir() and any(gpus.iterdir()) else "cpu"
    flags = _cpu_flags()
    native = "the GPU" if device == "cuda" else next((flag for flag in NATIVE_BF16 if flag in flags), None)
    return Hardware(device, environment.cores(), _free_memory(), native)


def _cpu_flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _free_memory() -> int:
    """What is free now, or what the control group still allows where that is less."""
    free = environment.memory()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def number_type(hardware: Hardware, parameters: int, wanted: Dtype | Auto) -> tuple[Dtype, str]:
    """(dtype, reason) of the compute weights."""
    if wanted != "auto":
        return wanted, "set in the recipe"
    if parameters < SMALL_MODEL:
        return "float32", f"a model of {parameters:,} parameters gains nothing from shorter numbers"
    if hardware.bf16:
        return "bfloat16", f"native here ({hardware.bf16}); the optimiser keeps float32 master weights"
    return "float32", "this processor has no native bfloat16 products"
