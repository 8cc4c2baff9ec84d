"""Resolves every value of a recipe with its reason, audits data and masks, predicts memory and time. Writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.flow.prepare import Emit, prepare
from sartor.recipe.load import Loaded, load

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.recipe.auto import Reasons, Resolution


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipe that can be run, and what it would do."""

    resolution: Resolution
    data: Mapping[str, Any]
    plan: Mapping[str, Any]

    def why(self, key: str) -> Reasons:
        """Why one value is what it is. Raises RecipeError R102 for an unknown key."""
        return self.resolution.why(key)

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        return {"data": self.data, "plan": self.plan, "settings": self.resolution.json()}

    def render(self, console: Console) -> None:
        """A few lines: data, split, mask, plan, and the warnings."""
        from sartor.console import printable, size

        data, plan = self.data, self.plan
        files = ", ".join(f"{file['path']} ({file['format']}, {file['records']:,} rows)" for file in data["files"])
        split = data["split"]
        parts = "  ".join(f"{name} {count:,}" for name, count in split["rows"].items())
        lines = {
            "data": files,
            "split": f"{parts}    {split['clusters']['count']:,} clusters kept whole, the largest of {split['clusters']['largest']:,}",
            "mask": f"{data['supervised_share']:.0%} of {data['tokens']:,} training tokens are learnt",
            "plan": f"{plan['method']}, {plan['objective']}, {plan['steps']:,} steps of {plan['steps_per_epoch']:,} an epoch, "
            f"learning rate {plan['learning_rate']:g}, {plan['dtype']}, about {size(plan['memory_bytes'])}",
        }
        if split["residual"]:
            figures = split["residual"]
            lines["leak"] = (
                f"likeness of held-out rows to training rows: median {figures['median']:.2f}, highest {figures['max']:.2f}"
            )
        for name, text in lines.items():
            console.print(f" {name:<6} {printable(text)}", soft_wrap=True)
        for finding in data["findings"]:
            place = ":".join(str(finding[part]) for part in ("file", "line") if finding[part] is not None)
            told = f" {finding['level']:<8} {finding['code']} {finding['message']}   {place}"
            console.print(printable(told), soft_wrap=True)
        console.print(" every value and its reason: --json, or --why KEY", style="dim")


def check(path: Path, overrides: Sequence[str], emit: Emit) -> Checked:
    """Check a recipe without importing torch. Raises InputError with every problem found."""
    return examine(load(path, overrides), emit)


def examine(loaded: Loaded, emit: Emit) -> Checked:
    """Prepare a recipe in a temporary folder and say what it would do."""
    from sartor.flow.measure import bench

    with tempfile.TemporaryDirectory(prefix="sartor-check-") as scratch:
        prepared = prepare(loaded, Path(scratch), emit)
        bench(prepared, emit)
        settings, train = prepared.settings, prepared.tokens["train"]
        supervised = train.supervised
        data = {
            **prepared.rows.findings.json(),
            "split": prepared.rows.splits.json(),
            "tokens": train.tokens,
            "supervised_tokens": supervised,
            "supervised_share": supervised / max(1, train.tokens),
            "longest": int(train.lengths.max()),
            "task": settings.task,
        }
        plan = {
            "method": settings.method.name,
            "objective": settings.objective.name,
            "steps": settings.steps,
            "steps_per_epoch": settings.steps_per_epoch,
            "learning_rate": settings.learning_rate,
            "dtype": settings.dtype,
            "device": settings.device,
            "micro_batch_tokens": settings.micro_tokens,
            "memory_bytes": settings.memory.total,
        }
    return Checked(prepared.resolution, data, plan)
