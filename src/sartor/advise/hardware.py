"""What this machine offers, found without importing torch: device, number type, threads, memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sartor.options import Auto
from sartor.store import cgroup, environment

Dtype = Literal["float32", "bfloat16"]
NATIVE_BF16 = ("amx_bf16", "avx512_bf16", "bf16")
SMALL_MODEL = 1_000_000
"""Parameters under which matrix products are not the cost, so that bf16 saves nothing."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator; its memory and what of it is free, in bytes."""

    name: str
    memory: int
    free: int = 0


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine as training sees it. Sizes in bytes."""

    device: str
    cores: int
    memory: int
    """What this process may still take, of the device's memory."""
    bf16: str | None
    """The processor feature that multiplies bf16 natively, if any."""
    name: str = ""
    """Of the processor or the GPU."""

    def share(self, processes: int) -> Hardware:
        """As one of several processes on this machine sees it: on a CPU they share the memory, GPUs have their own."""
        return replace(self, memory=self.memory // processes) if self.device == "cpu" else self

    @property
    def tiles(self) -> bool:
        """Whether the processor has the tiles that the compiled attention needs."""
        return self.device == "cpu" and self.bf16 == "amx_bf16"


def survey() -> Hardware:
    """Look at the processor, the memory, and the GPU where torch was built for it."""
    cores = environment.cores()
    found = gpus() if torch_cuda() else []
    if found:
        return Hardware("cuda", cores, found[0].free, "the GPU", found[0].name)
    flags = _cpu_flags()
    native = next((flag for flag in NATIVE_BF16 if flag in flags), None)
    name = environment.processor() or ""
    return Hardware("cpu", cores, free_memory(), native, name)


def torch_cuda() -> str | None:
    """The CUDA version torch was built for, read from its source so that it need not be imported; None for CPU builds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda(?:: [^=]+)? = '([\d.]+)'", text, re.MULTILINE)
    return found[1] if found else None


def gpus() -> list[Gpu]:
    """The GPUs this process may use, the one that torch takes first in front."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    try:
        asked = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in answer.splitlines():
        name, *sizes = (part.strip() for part in line.split(","))
        if len(sizes) == 2 and all(size.isdigit() for size in sizes):
            found.append(Gpu(name, int(sizes[0]) << 20, int(sizes[1]) << 20))
    return _visible(found)


def _visible(found: list[Gpu]) -> list[Gpu]:
    """Those that CUDA_VISIBLE_DEVICES names, in its order; it ends at the first that there is not."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or "GPU-" in wanted or "MIG-" in wanted:
        return found
    chosen = []
    for part in wanted.split(","):
        if not part.strip().isdigit() or int(part) >= len(found):
            break
        chosen.append(found[int(part)])
    return chosen


def _cpu_flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return frozenset()
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def free_memory() -> int:
    """What is free now, or what the control groups still allow where that is less."""
    free = environment.memory()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = min(free, int(line.split()[1]) * 1024)
    allowed = cgroup.limits().free
    return free if allowed is None else min(free, allowed)


def number_type(hardware: Hardware, parameters: int, wanted: Dtype | Auto) -> tuple[Dtype, str]:
    """(dtype, reason) of the compute weights."""
    if wanted != "auto":
        return wanted, "set in the recipe"
    if parameters < SMALL_MODEL:
        return "float32", f"a model of {parameters:,} parameters gains nothing from shorter numbers"
    if hardware.bf16:
        return "bfloat16", f"native here ({hardware.bf16}); the optimiser keeps float32 master weights"
    return "float32", "this processor has no native bfloat16 products"
