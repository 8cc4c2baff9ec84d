"""What doctor finds and what it advises."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from sartor.advise.hardware import Gpu
from sartor.cli.main import run
from sartor.flow import doctor as room
from sartor.flow.doctor import Machine, doctor

MACHINE = Machine("3.11", 2, "amx_bf16", 16 << 30, 10**12, (), "2.13.0", None)


def test_it_names_what_was_found_and_imports_no_torch() -> None:
    code = "import sys; from sartor.cli.main import run; code = run(['doctor', '--json']); assert 'torch' not in sys.modules; sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    names = [finding["name"] for finding in report["findings"]]
    assert {"Python", "CPU", "GPU", "memory", "disk", "torch", "transformers", "[tables]"} <= set(names)
    assert report["largest_model_parameters"]["LoRA"] >= report["largest_model_parameters"]["full"] > 0


def test_people_see_a_line_per_finding_and_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "training possible here: LoRA up to about" in shown
    assert "rule: " in shown


def test_a_missing_extra_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = room._version
    monkeypatch.setattr(room, "_version", lambda name: None if name == "polars" else found(name))
    (tables,) = [finding for finding in doctor().findings if finding.name == "[tables]"]
    assert tables.level == "missing"
    assert tables.fix
    assert tables.fix.endswith('-m pip install "sartor[tables]"')


def test_a_missing_library_is_an_error_and_exit_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = room._version
    monkeypatch.setattr(room, "_version", lambda name: None if name == "peft" else found(name))
    assert run(["doctor"]) == 3
    assert 'pip install "peft' in capsys.readouterr().out


def test_an_untested_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    found = room._version
    monkeypatch.setattr(room, "_version", lambda name: "3.0.1" if name == "torch" else found(name))
    (torch,) = [finding for finding in doctor().findings if finding.name == "torch"]
    assert (torch.level, torch.value.partition(",")[0]) == ("warning", "3.0.1")


def test_a_torchvision_of_another_build_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu", "torchvision": "0.28.0"}
    monkeypatch.setattr(room, "_version", versions.get)
    monkeypatch.setattr(room, "distribution", lambda name: type("D", (), {"requires": ["torch==2.13.0"]}))
    (finding,) = room._torchvision()
    assert finding.level == "error"
    versions["torchvision"] = "0.28.0+cpu"
    assert list(room._torchvision()) == []


def test_a_gpu_that_torch_cannot_use_is_said() -> None:
    machine = replace(MACHINE, gpus=(Gpu("H200", 140 << 30),))
    (gpu,) = [finding for finding in room._hardware(machine) if finding.name == "GPU"]
    assert gpu.level == "warning"
    assert not machine.accelerated
    assert replace(machine, torch_cuda="12.8").reach()["LoRA"] > machine.reach()["LoRA"]


def test_reach_follows_memory_and_speed() -> None:
    assert replace(MACHINE, memory=1 << 30).reach()["full"] == pytest.approx((1 << 30) * 0.8 / (1.3 * 16))
    assert replace(MACHINE, memory=1 << 40).reach()["full"] == pytest.approx(2 * 2e11 * 3 * 3600 / 6e6)
    assert replace(MACHINE, bf16=None).reach()["LoRA"] < MACHINE.reach()["LoRA"]
