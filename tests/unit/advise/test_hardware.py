"""What is found of a machine, with tools and folders that look like those of others."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from sartor.advise import hardware
from sartor.advise.hardware import Gpu, Hardware, gpus, number_type, survey, torch_cuda
from sartor.store.cgroup import Limits

TWO = "NVIDIA H200, 143771, 140000\nNVIDIA H200, 143771, 70000\n"


def pretend(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, cuda: str = "None", answer: str = TWO, fails: bool = False
) -> None:
    """A torch built for `cuda`, and an nvidia-smi that answers."""
    (folder / "torch").mkdir()
    (folder / "torch/version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda}\n")
    spec = ModuleSpec("torch", None, origin=str(folder / "torch/__init__.py"))
    monkeypatch.setattr(hardware, "find_spec", lambda name: spec)
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}END\nexit {int(fails)}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_driver_without_a_torch_for_it_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch)
    assert gpus()
    assert torch_cuda() is None
    assert survey().device == "cpu"


def test_a_torch_for_gpus_without_a_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, cuda="'12.8'", answer="No devices were found\n", fails=True)
    assert torch_cuda() == "12.8"
    assert survey().device == "cpu"


def test_the_memory_of_a_gpu_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, cuda="'12.8'")
    found = survey()
    assert (found.device, found.name, found.memory) == ("cuda", "NVIDIA H200", 140000 << 20)
    assert found.share(2) == found
    assert not found.tiles


@pytest.mark.parametrize(
    ("wanted", "free"), [("1", 70000), ("1,0", 70000), ("0,1", 140000), ("", None), ("-1", None), ("7", None)]
)
def test_only_visible_gpus_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, free: int | None
) -> None:
    pretend(tmp_path, monkeypatch, cuda="'12.8'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    found = survey()
    assert found.device == ("cpu" if free is None else "cuda")
    assert free is None or found.memory == free << 20


def test_this_torch_is_examined_without_importing_it() -> None:
    import torch

    assert torch_cuda() == torch.version.cuda


def test_strange_answers_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, answer="NVIDIA H200, [N/A], [N/A]\nTesla T4, 15360, 15000\n")
    assert gpus() == [Gpu("Tesla T4", 15360 << 20, 15000 << 20)]


def test_a_container_leaves_what_its_limit_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    own = hardware.free_memory()
    monkeypatch.setattr(hardware.cgroup, "limits", lambda: Limits(2 << 30, 1 << 30, None))
    assert own > 1 << 30
    assert hardware.free_memory() == 1 << 30


def test_the_type_of_numbers_follows_the_processor() -> None:
    plain, native = Hardware("cpu", 2, 1 << 33, None), Hardware("cpu", 2, 1 << 33, "amx_bf16")
    assert number_type(plain, 10**8, "auto")[0] == "float32"
    assert number_type(native, 10**8, "auto")[0] == "bfloat16"
    assert number_type(native, 10**5, "auto")[0] == "float32"
    assert number_type(plain, 10**8, "bfloat16") == ("bfloat16", "set in the recipe")
    assert native.share(2).memory == 1 << 32
