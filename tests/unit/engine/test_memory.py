"""Freed memory goes back to the system, and what lasts does not part the heap."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from sartor.engine.memory import Freed, resident

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the heap of glibc")
LASTING = """
import sys, torch
from sartor.engine.memory import Freed, resident
torch.ones(7 << 20)
freed = Freed(torch.device(sys.argv[1]))
passing, lasting = [], []
for _ in range(100):
    passing.append(torch.ones(1 << 18))
    lasting.append(torch.ones(1 << 16))
before = resident()
del passing
freed.settle()
print(before - resident())
"""
"""100 MiB that pass between what lasts, as in a first step, once glibc has seen a large block go; for a GPU nothing is done."""


def returned(device: str) -> int:
    command = [sys.executable, "-c", LASTING, device]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


@on_linux
def test_what_passes_in_the_first_step_leaves_no_holes() -> None:
    assert returned("cpu") > 90 << 20
    assert returned("cuda") < 10 << 20


@on_linux
def test_memory_is_returned_once_it_has_grown() -> None:
    freed = Freed(torch.device("cpu"))
    freed.settle()
    freed.settle()
    kept = [torch.ones(1 << 20) for _ in range(150)]
    pins = [torch.ones(64) for _ in kept]
    held = resident()
    del kept
    freed.settle()
    now = resident()
    assert held is not None
    assert now is not None
    assert held - now > 500 << 20
    assert len(pins) == 150


def test_a_gpu_is_left_alone() -> None:
    freed = Freed(torch.device("cuda"))
    freed.settle()
    freed.give_back()
