"""What this machine can do, what is missing, and the command that mends it. Reads files and metadata; imports no torch."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sartor.advise.hardware import Gpu, free_memory, gpus, survey, torch_cuda

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["ok", "missing", "warning", "error"]

TOKENS = 1_000_000
HOURS = 3.0
FLOPS_PER_PARAMETER_AND_TOKEN = {"LoRA": 4, "full": 6}
"""Forward and backward through frozen weights, and the same with gradients of the weights."""
BYTES_PER_PARAMETER = {"bfloat16": {"LoRA": 2, "full": 16}, "float32": {"LoRA": 4, "full": 16}}
"""The weights alone; or weights, gradients, float32 master weights (where they are not the weights) and two moments."""
WORKSPACE = 1.3
"""Activations, logits and the process itself, as a factor on the above."""
CORE_FLOPS = {"amx_bf16": 2.0e11, "avx512_bf16": 6.0e10, "bf16": 6.0e10}
PLAIN_FLOPS = 3.0e10
"""Sustained in training, per core, by the processor's feature for bfloat16 products; and without one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    level: Level = "ok"
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found. Memory and disk are what is free, in bytes."""

    python: str
    cores: int
    bf16: str | None
    """The processor's feature that multiplies bfloat16, if any."""
    memory: int
    disk: int
    gpus: tuple[Gpu, ...]
    torch: str | None
    torch_cuda: str | None

    @property
    def accelerated(self) -> bool:
        """A GPU that this torch can use."""
        return bool(self.gpus and self.torch_cuda)

    def reach(self) -> dict[str, float]:
        """Parameters of the largest model that each method trains here by `rule`."""
        if self.accelerated:
            room = max(gpu.memory for gpu in self.gpus) * 0.9
            return {method: room / (WORKSPACE * cost) for method, cost in BYTES_PER_PARAMETER["bfloat16"].items()}
        costs = BYTES_PER_PARAMETER["bfloat16" if self.bf16 in CORE_FLOPS else "float32"]
        flops = self.cores * CORE_FLOPS.get(self.bf16 or "", PLAIN_FLOPS)
        work = {method: TOKENS * cost for method, cost in FLOPS_PER_PARAMETER_AND_TOKEN.items()}
        return {
            method: min(self.memory * 0.8 / (WORKSPACE * cost), flops * HOURS * 3600 / work[method])
            for method, cost in costs.items()
        }

    @property
    def rule(self) -> str:
        """How `reach` is found, in one sentence."""
        if self.accelerated:
            return "rule: weights, gradients and optimiser with 30 % of workspace fit the memory of one GPU"
        return f"rule: fits the free memory, and {TOKENS // 1_000_000} million tokens take at most {HOURS:g} hours"


@dataclass(frozen=True, slots=True)
class Health:
    """A machine and what there is to say about it."""

    machine: Machine
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """3 where something that every run needs is broken."""
        return 3 if any(finding.level == "error" for finding in self.findings) else 0

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        reach = {method: round(parameters) for method, parameters in self.machine.reach().items()}
        findings = [asdict(finding) for finding in self.findings]
        return asdict(self.machine) | {
            "findings": findings,
            "largest_model_parameters": reach,
            "rule": self.machine.rule,
        }

    def render(self, console: Console) -> None:
        """Print one line per finding and what training is possible."""
        styles = {"ok": "green", "missing": "dim", "warning": "yellow", "error": "bold red"}
        width = max(len(finding.name) for finding in self.findings)
        for finding in self.findings:
            console.print(f" {finding.name:<{width}}  {finding.value:<44} ", end="")
            mending = f"  ->  {finding.fix}" if finding.fix else ""
            console.print(f"{finding.level}{mending}", style=styles[finding.level], soft_wrap=True)
        said = ", ".join(f"{method} up to about {_billions(count)}" for method, count in self.machine.reach().items())
        console.print(f" training possible here: {said}   ({self.machine.rule})", soft_wrap=True)


def _billions(parameters: float) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e8 else f"{parameters / 1e6:.0f}M"


def doctor() -> Health:
    """Examine this machine and this installation."""
    hardware = survey()
    machine = Machine(
        python=platform.python_version(),
        cores=hardware.cores,
        bf16=hardware.bf16,
        memory=free_memory(),
        disk=shutil.disk_usage(Path.cwd()).free,
        gpus=tuple(gpus()),
        torch=_version("torch"),
        torch_cuda=torch_cuda(),
    )
    return Health(machine, (*_hardware(machine), *_libraries(), *_torchvision(), *_extras()))


def _hardware(machine: Machine) -> Iterator[Finding]:
    yield Finding("Python", machine.python)
    kind = f", {machine.bf16.replace('_', ' ')}" if machine.bf16 in CORE_FLOPS and machine.bf16 else ""
    yield Finding("CPU", f"{machine.cores} cores{kind}")
    if machine.gpus and not machine.torch_cuda:
        fix = f"{_pip('torch')} --upgrade --index-url https://download.pytorch.org/whl/cu128"
        yield Finding("GPU", f"{machine.gpus[0].name}, but torch is a CPU build", "warning", fix)
    elif machine.gpus:
        yield Finding("GPU", ", ".join(f"{gpu.name} {gpu.memory / 1e9:.0f} GB" for gpu in machine.gpus))
    else:
        yield Finding("GPU", "none")
    low = machine.memory < 2e9
    yield Finding("memory", f"{machine.memory / 1e9:.1f} GB free", "warning" if low else "ok")
    full = machine.disk < 2e9
    elsewhere = "free some space, or run in a folder on another disk" if full else None
    yield Finding("disk", f"{machine.disk / 1e9:.0f} GB free here", "warning" if full else "ok", elsewhere)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pip(requirement: str) -> str:
    return f'{Path(sys.executable).name} -m pip install "{requirement}"'


def _libraries() -> Iterator[Finding]:
    """Each library every run needs: present, and in the range this release was tested with."""
    from packaging.requirements import Requirement

    for text in requires("sartor") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted, present = f"{requirement.name}{requirement.specifier}", _version(requirement.name)
        if present is None:
            yield Finding(requirement.name, "absent", "error", _pip(wanted))
        elif not requirement.specifier.contains(present.partition("+")[0], prereleases=True):
            yield Finding(requirement.name, f"{present}, tested with {requirement.specifier}", "warning", _pip(wanted))
        elif requirement.name in ("torch", "transformers", "peft"):
            yield Finding(requirement.name, present)


def _torchvision() -> Iterator[Finding]:
    """A torchvision made for another build of torch breaks every import of transformers."""
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None:
        return
    build, own = torch.partition("+")[2], vision.partition("+")[2]
    pins = [text for text in distribution("torchvision").requires or () if re.match(r"torch\b", text)]
    wanted = next((found[1] for pin in pins if (found := re.search(r"==\s*([\d.]+)", pin))), None)
    if build != own or (wanted and wanted != torch.partition("+")[0]):
        fix = f"{Path(sys.executable).name} -m pip uninstall torchvision"
        yield Finding("torchvision", f"{vision} was made for another torch than {torch}", "error", fix)


def _extras() -> Iterator[Finding]:
    """Each optional group of libraries, and the command that installs it."""
    from packaging.requirements import Requirement

    for extra in distribution("sartor").metadata.get_all("Provides-Extra") or ():
        if extra == "dev":
            continue
        needed = [
            requirement.name
            for requirement in map(Requirement, requires("sartor") or ())
            if requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
            if not requirement.marker.evaluate({"extra": ""})
        ]
        absent = [name for name in needed if _version(name) is None]
        name = f"[{extra}]"
        if absent:
            yield Finding(name, f"{', '.join(absent)} absent", "missing", _pip(f"sartor[{extra}]"))
        else:
            yield Finding(name, ", ".join(f"{needs} {_version(needs)}" for needs in needed))
