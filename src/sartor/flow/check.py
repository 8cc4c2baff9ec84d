"""Resolves every value of a recipe with its reason, audits data and masks, predicts memory and time. Writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.flow.prepare import Emit, prepare
from sartor.flow.stages import Stage, prepare_stages, with_judges
from sartor.recipe.load import Loaded, load

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.flow.forecast import Forecast
    from sartor.recipe.auto import Reasons, Resolution


NAMED = 8
"""Labels that are shown."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe that can be run, and what it would do."""

    resolution: Resolution
    data: Mapping[str, Any]
    plans: Sequence[Mapping[str, Any]]
    """One for each stage of training."""
    forecast: Forecast

    def why(self, key: str) -> Reasons:
        """Why one value is what it is. Raises RecipeError R102 for an unknown key."""
        return self.resolution.why(key)

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        told = {"data": self.data, "plan": self.plans[-1], "stages": self.plans, "forecast": self.forecast.json()}
        return {**told, "settings": self.resolution.json()}

    def render(self, console: Console) -> None:
        """A few lines: data, split, mask, plan, and the warnings."""
        from sartor.console import printable

        data = self.data
        files = ", ".join(f"{file['path']} ({file['format']}, {file['records']:,} rows)" for file in data["files"])
        split = data["split"]
        parts = "  ".join(f"{name} {count:,}" for name, count in split["rows"].items())
        lines = {
            "data": files,
            "split": f"{parts}    {split['clusters']['count']:,} clusters kept whole, the largest of {split['clusters']['largest']:,}",
            **_learnt(data),
            **{f"plan{f' {number}' * (len(self.plans) > 1)}": _plan(plan) for number, plan in enumerate(self.plans, 1)},
            "memory": _memory(self.forecast, self.plans[-1]["memory_free"]),
            "time": _time(self.forecast),
        }
        if split["residual"]:
            figures = split["residual"]
            lines["leak"] = (
                f"likeness of held-out rows to training rows: median {figures['median']:.2f}, highest {figures['max']:.2f}"
            )
        for name, text in lines.items():
            console.print(f" {name:<7} {printable(text)}", soft_wrap=True)
        for finding in data["findings"]:
            place = ":".join(str(finding[part]) for part in ("file", "line") if finding[part] is not None)
            told = f" {finding['level']:<8} {finding['code']} {finding['message']}   {place}"
            console.print(printable(told), soft_wrap=True)
        console.print(" every value and its reason: --json, or --why KEY", style="dim")


def _learnt(data: Mapping[str, Any]) -> dict[str, str]:
    """How much is learnt of the tokens, or what is learnt about whole rows."""
    head = data["head"]
    if head is None:
        return {"mask": f"{data['supervised_share']:.0%} of {data['tokens']:,} training tokens are learnt"}
    if head["kind"] == "number":
        return {
            "head": f"a number, in training {head['center']:.4g} on average with a deviation of {head['spread']:.4g}"
        }
    if not head["names"]:
        return {"head": "a reward"}
    names = ", ".join(head["names"][:NAMED]) + (" ..." if len(head["names"]) > NAMED else "")
    return {"head": f"{len(head['names'])} {'tags' if head['kind'] == 'tags' else 'labels'}: {names}"}


def check(path: Path, overrides: Sequence[str], emit: Emit) -> Checked:
    """Check a recipe without importing torch. Raises InputError with every problem found."""
    return examine(with_judges(load(path, overrides)), emit)


def examine(loaded: Loaded, emit: Emit) -> Checked:
    """Prepare a recipe in a temporary folder and say what it would do."""
    from sartor.flow.continual import of_run as tasks_of
    from sartor.flow.forecast import forecast
    from sartor.flow.measure import bench

    with tempfile.TemporaryDirectory(prefix="sartor-check-") as scratch:
        prepared = prepare(loaded, Path(scratch), emit)
        stages = prepare_stages(loaded, prepared, Path(scratch), emit)
        tools = bench(prepared, emit)
        tasks_of(loaded, stages, tools, prepared.resolution, prepared)
        settings, train = prepared.settings, prepared.tokens["train"]
        supervised, foreseen = train.supervised, forecast(prepared, tools)
        data = {
            **prepared.rows.findings.json(),
            "split": prepared.rows.splits.json(),
            "tokens": train.tokens,
            "supervised_tokens": supervised,
            "supervised_share": supervised / max(1, train.tokens),
            "longest": int(train.lengths.max()),
            "task": settings.task,
            "head": settings.head.json() if settings.head else None,
        }
        plans = [_planned(stage) for stage in stages]
        peak = foreseen.peak.total
    plans = [plan | {"memory_bytes": max(peak, plan["memory_bytes"])} for plan in plans]
    return Checked(prepared.resolution, data, plans, foreseen)


def _planned(stage: Stage) -> dict[str, Any]:
    settings = stage.prepared.settings
    return {
        "method": settings.method.name,
        "objective": settings.objective.name,
        "rows": len(stage.prepared.tokens["train"]),
        "steps": settings.steps,
        "steps_per_epoch": settings.steps_per_epoch,
        "learning_rate": settings.learning_rate,
        "dtype": settings.dtype,
        "device": settings.device,
        "micro_batch_tokens": settings.micro_tokens,
        "memory_bytes": settings.memory.total,
        "memory_free": settings.hardware.memory,
    }


def _plan(plan: Mapping[str, Any]) -> str:
    """lora, sft, 120 steps of 40 an epoch, learning rate 0.0004, bfloat16"""
    steps = f"{plan['steps']:,} steps of {plan['steps_per_epoch']:,} an epoch"
    return f"{plan['method']}, {plan['objective']}, {steps}, learning rate {plan['learning_rate']:g}, {plan['dtype']}"


def _memory(forecast: Forecast, free: int) -> str:
    """about 2.1 GB of 22.9 GB free while it trains: activations 1.2 GB, ..."""
    from sartor.console import size

    stage, peak = max(forecast.peaks.items(), key=lambda entry: entry[1].total)
    largest = sorted(peak.parts.items(), key=lambda part: -part[1])[:3]
    parts = ", ".join(f"{name} {size(part)}" for name, part in largest)
    doing = {"train": "in training", "evaluate": "in evaluation"}[stage]
    return f"about {size(peak.total)} of {size(free)} free, {doing}    most of it {parts}"


def _time(forecast: Forecast) -> str:
    """training 4 to 9 min, evaluation 40 to 90 s    measured in 3 runs here"""
    training, measuring = forecast.seconds["train"], forecast.seconds["evaluate"]
    source = training.source if training.source == measuring.source else f"{training.source}; {measuring.source}"
    return f"training {training}, evaluation {measuring}    {source}"
