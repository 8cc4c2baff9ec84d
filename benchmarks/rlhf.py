"""Does RLHF help? sft -> reward model -> reinforcement on the embedded tickets, judged by a metric that no stage has seen.

    python benchmarks/rlhf.py [--objective ppo|grpo|rloo|reinforce|dpo] [--steps 80] [--threads 1] [--out DIR] [--json]

Of the answers learnt from first, three in five begin with filler, as answers of people do; so does then the model. The pairs prefer the
plain JSON to the same with filler, cut off, or with fields of another ticket; the last part of the tickets are prompts alone. With dpo the pairs are learnt from directly. Prints the
reward model's accuracy on pairs it never saw, the reward and the distance to the reference over the rounds, and json_valid, chatty_prefix
and field_f1 after sft and after reinforcement on the same test rows.
"""

from __future__ import annotations

import argparse
import itertools
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

SFT, PAIRS, PROMPTS = 300, 240, 160
FILLERS = ("Sure, here is the JSON: ", "Here you go: ", "Of course! The answer is: ")
METRICS = ["json_valid", "chatty_prefix", "field_f1"]
CHATTY = 0.6
"""Share of the first answers that begin with filler."""


def worse(answer: str, others: list[dict[str, Any]], draw: random.Random) -> str:
    """The answer with filler, cut off, or with one field of another ticket."""
    way = draw.choice(("filler", "filler", "cut", "field"))
    if way == "filler":
        return draw.choice(FILLERS) + answer
    if way == "cut":
        return answer[: draw.randrange(len(answer) // 3, len(answer) - 1)]
    wrong = json.loads(answer)
    field = draw.choice(sorted(wrong))
    wrong[field] = draw.choice(others)[field]
    return json.dumps(wrong, separators=(",", ":"))


def write(folder: Path, seed: int) -> None:
    """sft.jsonl, pairs.jsonl, prompts.jsonl and test.jsonl, no ticket in two of them."""
    text = resources.files("sartor.embedded").joinpath("demo/tickets.jsonl").read_text(encoding="utf-8")
    tickets = [json.loads(line) for line in text.splitlines()]
    draw = random.Random(seed)
    draw.shuffle(tickets)
    answers = [json.loads(ticket["completion"]) for ticket in tickets]
    cuts = (0, SFT, SFT + PAIRS, SFT + PAIRS + PROMPTS, len(tickets))
    sft, pairs, prompts, test = (tickets[begin:end] for begin, end in itertools.pairwise(cuts))
    for row in sft:
        row["completion"] = draw.choice(FILLERS) * (draw.random() < CHATTY) + row["completion"]
    made = []
    for each in pairs:
        rejected = worse(each["completion"], answers, draw)
        if rejected != each["completion"]:
            made.append({"prompt": each["prompt"], "chosen": each["completion"], "rejected": rejected})
    files = {"sft": sft, "pairs": made, "prompts": [{"prompt": each["prompt"]} for each in prompts], "test": test}
    for name, rows in files.items():
        kept = [{key: row[key] for key in ("prompt", "completion", "chosen", "rejected") if key in row} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def recipe(options: argparse.Namespace) -> dict[str, Any]:
    """The stages; everything that is not said is by default."""
    parts = {"split": {"train": 0.9, "validation": 0.1, "test": 0.0}, "on_leak": "drop"}
    reinforce = {"rewards": [{"stage": "reward"}], "prompts": 16, "samples": 4, "max_new_tokens": 64}
    threads = {"threads": options.threads}
    stages: list[dict[str, Any]] = [{"objective": "sft", "steps": options.sft_steps, **threads}]
    if options.objective == "dpo":
        stages.append({"objective": "dpo", "data": "pairs.jsonl", "steps": options.steps, **threads})
    else:
        stages.append({"objective": "reward", "data": "pairs.jsonl", "steps": options.reward_steps, **threads})
        learnt = {"objective": {options.objective: reinforce}, "prompts": "prompts.jsonl", "steps": options.steps}
        stages.append({**learnt, **threads})
    return {
        "base": "sartor/nano",
        "data": {"sources": [{"path": "sft.jsonl"}, {"path": "test.jsonl", "role": "test"}], **parts},
        "goal": "Turn a support ticket into our triage JSON",
        "train": stages,
        "evaluate": {"metrics": METRICS, "against": ["base"]},
    }  # fmt: skip


def sartor(*words: str) -> Any:
    """The JSON that a command prints."""
    ended = subprocess.run(
        [sys.executable, "-m", "sartor", *words, "--json"], capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, 1):
        raise SystemExit(ended.stderr)
    return json.loads(ended.stdout)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train all stages and compare the model after sft with the one after reinforcement."""
    write(folder, options.seed)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(options), sort_keys=False), encoding="utf-8")
    out = folder / "run"
    sartor("run", str(folder / "recipe.yaml"), "--out", str(out))
    events = [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    starts = [place for place, event in enumerate(events) if event["event"] == "stage" and event["name"] == "train"]
    last = [event["metrics"] for event in events[starts[-1] :] if event["event"] == "validation"]
    judged = [event["metrics"] for event in events[starts[1] : starts[-1]] if event["event"] == "validation"]
    whole = out / "stages/0-sft/whole"
    sft = whole if whole.exists() else out / "stages/0-sft/model"
    compared = sartor(
        "eval", str(sft), str(out / "model"), "--data", str(folder / "test.jsonl"), "--metrics", ",".join(METRICS)
    )
    return {
        "objective": options.objective,
        "reward_model": judged[-1] if judged else None,
        "validations": last,
        "compared": compared["metrics"],
        "notes": [event["message"] for event in events if event["event"] == "note" and event["level"] == "warning"],
    }


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objective", default="ppo", choices=("ppo", "grpo", "rloo", "reinforce", "dpo"))
    parser.add_argument("--sft-steps", type=int, default=120)
    parser.add_argument("--reward-steps", type=int, default=60)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep everything in this folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        found = measure(options.out, options)
    else:
        with tempfile.TemporaryDirectory(prefix="sartor-rlhf-") as scratch:
            found = measure(Path(scratch), options)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    console = Console()
    if found["reward_model"]:
        console.print(f"reward model on held-out pairs: {found['reward_model']}")
    rounds = Table("validation", *sorted(found["validations"][0]))
    for number, metrics in enumerate(found["validations"]):
        rounds.add_row(str(number), *(f"{metrics[name]:.3g}" for name in sorted(metrics)))
    console.print(rounds)
    scores = Table("metric", "after sft", f"after {options.objective}", "difference (95 %)")
    for metric in found["compared"]:
        (_, before), (name, after) = metric["scores"].items()
        gain = metric["differences"][name]
        scores.add_row(
            metric["name"], f"{before['value']:.3f}", f"{after['value']:.3f}",
            f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] {gain['word']}",
        )  # fmt: skip
    console.print(scores)
    for note in found["notes"]:
        console.print(note)


if __name__ == "__main__":
    main()
