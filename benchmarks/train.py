"""Sartor against TRL and transformers + PEFT: the same model, rows and supervised tokens, each in its own process.

    python benchmarks/train.py [--shape 15m|135m|1b|8b] [--method full|lora] [--rounds N] [--steps N] [--threads N]
                               [--contenders sartor,trl_best,...] [--peers [DIR]] [--keep] [--json]

Sartor runs in the environment that runs this file, through the functions that `sartor run` calls, with what its advisor
picks. The others run in a venv of their own with pinned versions (`_train/peers.txt`), made by `--peers`. First everyone
computes the fp32 loss of the first step; if they differ by more than 1e-4 the benchmark fails. Then the contenders take
turns, round by round. Rates count the measured steps alone; start-up and warm-up, with any compilation, are counted apart. MFU: the operations the rows cannot do without (`_train/work.py: flops`) as a share of the matrix peak measured
in the same process before and after. Ratios are medians over rounds of the quotient within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _train.figures import COMPARED, LOSS_TOLERANCE, OURS, figures, medians, ratios, spread
from _train.work import SHAPES, Work, flops
from rich.console import Console
from rich.table import Table

from sartor.store import environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = ROOT / ".venv-peers"
PINS = HERE / "_train" / "peers.txt"
MODULES = {
    "sartor": "_train.ours",
    "trl_best": "_train.with_trl",
    "trl_model_loss": "_train.with_trl",
    "trl_default": "_train.with_trl",
    "transformers": "_train.with_transformers",
}
CALM = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
}


LINES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("tokens/s", "tokens_per_second", "{:,.0f}".format),
    ("supervised tokens/s", "supervised_per_second", "{:,.0f}".format),
    ("tokens/CPU second", "tokens_per_cpu_second", "{:,.0f}".format),
    ("MFU", "mfu", "{:.1%}".format),
    ("matrix peak, TFLOP/s", "matrix_peak", lambda value: f"{value / 1e12:.2f}"),
    ("peak memory, GiB", "memory_bytes", lambda value: f"{value / 2**30:.2f}"),
    ("start to first step done, s", "first_step_seconds", "{:.1f}".format),
    ("start to warm-up done, s", "warm_seconds", "{:.1f}".format),
    ("loss of the last step", "last_loss", "{:.4f}".format),
)
"""What the table shows, figure by figure."""


class Failed(Exception):
    """A process ended with a fault; the message is its last line."""


@dataclass
class Contender:
    """One trainer and what it has shown so far."""

    name: str
    python: Path
    loss: float | None = None
    """fp32 loss of the first step."""
    rounds: list[dict[str, float] | None] = field(default_factory=list)
    found: list[dict[str, Any] | None] = field(default_factory=list)
    failure: str | None = None


def make_peers(folder: Path) -> None:
    """A venv with the pinned versions of the other trainers; nothing to do when it is there."""
    pins, stamp = PINS.read_text(), folder / "peers.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return
    print(f"installing the other trainers into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), "-r", str(PINS)], check=True)
    stamp.write_text(pins)


def start(python: Path, words: Sequence[str], *, threads: int | None, timeout: float) -> None:
    """Run a module of `_train` to its end. Raises Failed."""
    own = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    try:
        done = subprocess.run(
            [str(python), "-m", *words],
            cwd=HERE,
            env={**os.environ, **CALM, **own},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"not done after {timeout:g} s") from fault
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failed(lines[-1].strip() if lines else f"exit code {done.returncode}")


def measure(contender: Contender, work: Work, *flags: str, timeout: float) -> dict[str, Any]:
    """What one process of the contender found. Raises Failed."""
    out = work.folder / "found.json"
    out.unlink(missing_ok=True)
    words = [MODULES[contender.name], str(work.folder), contender.name, "--out", str(out), *flags]
    start(contender.python, [*words, "--started", repr(time.time())], threads=work.threads, timeout=timeout)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def compare_losses(contenders: Sequence[Contender], work: Work, timeout: float) -> float:
    """Have everyone compute the fp32 loss of the first step; the relative spread."""
    for contender in contenders:
        try:
            contender.loss = measure(contender, work, "--exact", timeout=timeout)["losses"][0]
        except Failed as fault:
            contender.failure = str(fault)
    losses = {each.name: each.loss for each in contenders if each.loss is not None}
    return spread(losses) if losses else 0.0


def take_turns(contenders: Sequence[Contender], work: Work, rounds: int, timeout: float) -> None:
    """Every contender once in each round."""
    totals = amounts(work)
    for number in range(rounds):
        for contender in contenders:
            if contender.failure is not None:
                continue
            try:
                found = measure(contender, work, timeout=timeout)
            except Failed as fault:
                contender.failure = str(fault)
                contender.rounds.append(None)
                contender.found.append(None)
                continue
            contender.rounds.append(figures(found, **totals))
            contender.found.append(found)
            rate = contender.rounds[-1]["tokens_per_second"]
            print(f"round {number + 1} {contender.name}: {rate:,.0f} tokens/s", file=sys.stderr)


def amounts(work: Work) -> dict[str, Any]:
    """Tokens, supervised tokens and necessary operations of the measured steps."""
    lengths = [work.lengths[row] for row in work.measured]
    supervised = sum(work.lengths[row] - work.prompts[row] for row in work.measured)
    need = flops(work.form.config(), lengths, supervised, work.method)
    return {"tokens": sum(lengths), "supervised": supervised, "flops": need}


def summary(contenders: Sequence[Contender], work: Work, apart: float, load: Sequence[float]) -> dict[str, Any]:
    """Everything as one JSON object; `ratio_to_PEER` is that of tokens per second."""
    compared = ratios({each.name: each.rounds for each in contenders})
    return {
        **{f"ratio_to_{pair.partition('/')[2]}": entry["tokens_per_second"] for pair, entry in compared.items()},
        "shape": work.shape,
        "method": work.method,
        "device": work.device,
        "threads": work.threads,
        "rows_per_step": work.form.rows,
        "warmup_steps": work.warmup,
        "steps": work.steps,
        **amounts(work),
        "learning_rate": work.learning_rate,
        "first_loss_fp32": {each.name: each.loss for each in contenders},
        "first_loss_spread": apart,
        "contenders": {
            each.name: {
                "median": medians(each.rounds),
                "rounds": each.rounds,
                "found": each.found,
                "failure": each.failure,
            }
            for each in contenders
        },
        "ratios": compared,
        "load_average": {"before": load[0], "after": os.getloadavg()[0]},
        "machine": environment.facts(),
    }


def render(body: Mapping[str, Any], console: Console) -> None:
    """Print the table, the ratios and what failed."""
    rate = body["learning_rate"]
    title = (
        f"{body['shape']} {body['method']}, {body['device']}, {body['threads']} threads: {body['steps']} steps of "
        f"{body['rows_per_step']} rows after {body['warmup_steps']} of warm-up, learning rate {rate:g}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("median of rounds")
    entries = body["contenders"]
    for name in entries:
        table.add_column(name, justify="right")
    for label, key, show in LINES:
        table.add_row(
            label, *(show(entry["median"][key]) if entry["median"] else "failed" for entry in entries.values())
        )
    console.print(table)
    table = Table(title="Sartor's figure divided by theirs", title_justify="left")
    table.add_column("median of rounds")
    for name in body["ratios"]:
        table.add_column(name, justify="right")
    for label, key, _ in LINES:
        if key in COMPARED:
            table.add_row(label, *(f"{entry[key]:.2f}" for entry in body["ratios"].values()))
    if body["ratios"]:
        console.print(table)
    for name, entry in body["contenders"].items():
        if entry["failure"]:
            console.print(f"{name} failed: {entry['failure']}", style="red", markup=False, highlight=False)
    load = body["load_average"]
    console.print(
        f"fp32 loss of the first step: equal to {body['first_loss_spread']:.1e}; load average {load['before']:.1f} before, "
        f"{load['after']:.1f} after, on {body['machine']['cores']} cores",
        style="dim",
        highlight=False,
    )


@contextlib.contextmanager
def working_folder(keep: bool) -> Iterator[Path]:
    """A temporary folder, left behind when asked."""
    folder = Path(tempfile.mkdtemp(prefix="sartor-bench-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured optimiser steps (8)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them, at least one (2)")
    parser.add_argument("--contenders", default=",".join(MODULES), help="comma-separated, in the order of a round")
    parser.add_argument("--threads", type=int, help="CPU threads of everyone (every core)")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a process may take (3600)")
    parser.add_argument("--peers", nargs="?", type=Path, const=PEERS, help=f"make the peers' venv ({PEERS.name})")
    parser.add_argument("--keep", action="store_true", help="leave the model and the rows behind")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    asked.contenders = asked.contenders.split(",")
    unknown = [name for name in asked.contenders if name not in MODULES]
    if unknown:
        parser.error(f"no contender is called {', '.join(unknown)}; there are {', '.join(MODULES)}")
    if min(asked.warmup, asked.steps, asked.rounds) < 1:
        parser.error("--warmup, --steps and --rounds are at least 1")
    if asked.peers is None:
        asked.peers = PEERS
        if asked.contenders != [OURS] and not (PEERS / "peers.txt").exists():
            parser.error("the other trainers are not installed; --peers makes their venv, or --contenders sartor")
    elif asked.contenders != [OURS]:
        make_peers(asked.peers)
    return asked


def main() -> int:
    """Prepare, compare, take turns, print. 1 when the work was not the same or Sartor failed."""
    asked = arguments()
    load = os.getloadavg()
    own, theirs = Path(sys.executable), asked.peers.absolute() / "bin" / "python"
    contenders = [Contender(name, own if name == OURS else theirs) for name in asked.contenders]
    with working_folder(asked.keep) as folder:
        words = ["_train.prepare", str(folder), "--shape", asked.shape, "--method", asked.method]
        words += ["--warmup", str(asked.warmup), "--steps", str(asked.steps), "--threads", str(asked.threads or "auto")]
        try:
            start(own, words, threads=asked.threads, timeout=asked.timeout)
        except Failed as fault:
            print(f"the work could not be prepared: {fault}", file=sys.stderr)
            return 1
        work = Work.open(folder)
        apart = compare_losses(contenders, work, asked.timeout)
        same = apart <= LOSS_TOLERANCE
        if same:
            take_turns(contenders, work, asked.rounds, asked.timeout)
        body = summary(contenders, work, apart, load)
    if asked.json:
        print(json.dumps(body, indent=1))
    else:
        render(body, Console())
    if not same:
        print(f"the first step's fp32 losses differ: {body['first_loss_fp32']}", file=sys.stderr)
    return int(not same or any(each.name == OURS and each.failure for each in contenders))


if __name__ == "__main__":
    sys.exit(main())
