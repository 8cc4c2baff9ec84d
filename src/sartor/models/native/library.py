"""Builds the kernels with the C++ compiler of this machine, once for each version of their source, and loads them.

They are plain C functions on raw memory, so they do not depend on PyTorch's binary interface. They use the OpenMP library
that PyTorch brings, so that both share one pool of threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from sartor.store.environment import compiler, processor

SOURCES = ("attention.cpp", "decode.cpp", "gradient.cpp", "pointwise.cpp")
HEADERS = ("tiles.h",)
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-Wno-uninitialized")
WIDE = ("-mprefer-vector-width=512",)
"""For x86 alone."""
SECONDS = 120
"""Longest a compiler may take; it takes about two."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The loaded library; `attention` says whether this CPU has the tiles that the attention kernel needs."""

    library: ctypes.CDLL
    attention: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there are no kernels."""

    why: str


@lru_cache(maxsize=1)
def kernels() -> Kernels | Missing:
    """The kernels, built when they are not there yet, or the reason why this machine has none."""
    if sys.platform != "linux":
        return Missing(f"the kernels are made for Linux, this is {sys.platform}")
    if (builder := compiler()) is None:
        return Missing("no C++ compiler was found (g++ or clang++)")
    openmp = next(iter(sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))), None)
    if openmp is None:
        return Missing("this PyTorch does not bring the OpenMP library libgomp")
    try:
        path = _built(builder, openmp)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as fault:
        return Missing(f"building them failed: {_last_line(fault)}")
    return Kernels(library, attention=library.sartor_attention_ready() == 0)


def home() -> Path:
    """Where built kernels are kept: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sartor" / "kernels"


def _built(builder: str, openmp: Path) -> Path:
    folder = Path(__file__).parent
    flags = (*FLAGS, *(WIDE if platform.machine() == "x86_64" else ()))
    facts = (_run([builder, "--version"]), flags, processor(), _features(), str(openmp))
    key = hashlib.sha256(repr(facts).encode())
    for name in (*SOURCES, *HEADERS):
        key.update((folder / name).read_bytes())
    path = home() / f"{key.hexdigest()[:24]}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        objects = []
        for name in SOURCES:
            objects.append(str(Path(scratch) / f"{name}.o"))
            _run([builder, *flags, "-fopenmp", "-c", str(folder / name), "-o", objects[-1]])
        made = Path(scratch) / "kernels.so"
        _run([builder, "-shared", *objects, str(openmp), f"-Wl,-rpath,{openmp.parent}", "-o", str(made)])
        os.replace(made, path)
    return path


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout  # noqa: S603


def _features() -> str:
    """The instruction sets of this CPU: a folder of kernels may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _last_line(fault: Exception) -> str:
    output = getattr(fault, "stderr", None)
    lines = output.strip().splitlines() if isinstance(output, str) else []
    return next((line for line in lines if "error" in line), str(fault))
