"""Does a teacher help? A student of half the layers learns the same rows for the same steps from answers alone and from a teacher.

    python benchmarks/distill.py [--rows 120] [--steps 150] [--threads 1] [--json]

The teacher is the embedded model tuned on every training ticket; the student is the embedded model with every second layer left out
and sees only ROWS of them. Prints loss per token and the metrics of both students and the teacher on the same test rows.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

METRICS = ("perplexity", "field_f1", "json_valid")
TEST = 160


def sartor(*words: str) -> Any:
    """The JSON that a command prints."""
    ended = subprocess.run(
        [sys.executable, "-m", "sartor", *words, "--json"], capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, 1):
        raise SystemExit(ended.stderr)
    return json.loads(ended.stdout)


def student(folder: Path) -> Path:
    """The embedded model with every second layer left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = str(resources.files("sartor.embedded").joinpath("nano"))
    model = AutoModelForCausalLM.from_pretrained(base)
    layers = model.model.layers
    model.model.layers = type(layers)(layers[::2])
    model.config.num_hidden_layers = len(model.model.layers)
    for place, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = place
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[::2]
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def train(folder: Path, name: str, base: str, data: str, objective: Any, options: argparse.Namespace) -> Path:
    """The model that a run ends with."""
    recipe = {
        "base": base,
        "data": {
            "sources": [{"path": data}, {"path": "test.jsonl", "role": "test"}],
            "split": {"train": 0.9, "validation": 0.1, "test": 0.0},
            "on_leak": "drop",
        },
        "method": "full",
        "train": {"objective": objective, "steps": options.steps, "threads": options.threads},
        "evaluate": {"metrics": ["perplexity"], "against": ["base"], "rows": 20},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    sartor("run", str(folder / f"{name}.yaml"), "--out", str(folder / name))
    return folder / name / "model"


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Teacher and both students on the same test rows."""
    text = resources.files("sartor.embedded").joinpath("demo/tickets.jsonl").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    random.Random(options.seed).shuffle(lines)
    for name, rows in (("test", lines[:TEST]), ("all", lines[TEST:]), ("few", lines[TEST : TEST + options.rows])):
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    small = str(student(folder / "student"))
    teacher = train(folder, "teacher", "sartor/nano", "all.jsonl", "sft", options)
    alone = train(folder, "alone", small, "few.jsonl", "sft", options)
    taught = train(folder, "taught", small, "few.jsonl", {"distill": {"teacher": str(teacher)}}, options)
    models = (alone, taught, teacher)
    return dict(sartor("eval", *map(str, models), "--data", str(folder / "test.jsonl"), "--metrics", ",".join(METRICS)))


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sartor-distill-") as scratch:
        found = measure(Path(scratch), options)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    shown = Table("metric", "student alone", "student taught", "teacher", "taught − alone (95 %)")
    for metric in found["metrics"]:
        alone, taught, teacher = (f"{score['value']:.3f}" for score in metric["scores"].values())
        gain = next(iter(metric["differences"].values()))
        told = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] {gain['word']}"
        shown.add_row(metric["name"], alone, taught, teacher, told)
    Console().print(shown)


if __name__ == "__main__":
    main()
