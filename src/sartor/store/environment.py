"""The facts of environment.json: code, libraries and hardware. Nothing heavy is imported to find them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sartor
from sartor.store.cgroup import limits

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")
"""Those whose version can change the numbers of a run."""


def facts() -> dict[str, Any]:
    """What a run carries about where it happened, as a JSON object. What cannot be found out is None."""
    return {
        "sartor": {"version": sartor.__version__, "revision": revision()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": memory(),
        "gpus": gpus(),
        "libraries": versions(LIBRARIES),
    }


def versions(names: Sequence[str]) -> dict[str, str | None]:
    """Installed version of each distribution, read from its metadata."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def revision() -> str | None:
    """Commit of the checkout this code runs from, with ``+changes`` where files differ from it; None when installed."""
    package = Path(sartor.__file__).resolve().parent
    root = package.parent.parent
    if not (root / ".git").exists() or package != root / "src" / "sartor":
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src")
    return f"{commit}+changes" if commit and changed else commit


def compiler() -> str | None:
    """Path of a C++ compiler: $CXX, or the first found of g++, clang++ and c++."""
    wanted = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((path for name in wanted if name and (path := shutil.which(name))), None)


def processor() -> str | None:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def cores() -> int:
    """CPU cores this process may use: its affinity, and no more than its control groups' quota."""
    own, quota = len(os.sched_getaffinity(0)), limits().cores
    return own if quota is None else max(1, min(own, int(quota)))


def memory() -> int:
    """Bytes of memory this process may use: the machine's, and no more than its control groups' limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = limits().memory
    return machine if limit is None else min(machine, limit)


def gpus() -> list[str]:
    """Names of the GPUs, if torch is loaded already; it is not loaded for this."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  a list, and nothing in it comes from the user
            ["git", "-C", str(root), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
