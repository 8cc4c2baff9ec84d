"""What ships inside the package, so that the first run needs no network: a small base model and a small data set."""

from __future__ import annotations

from pathlib import Path

from sartor.errors import DataError, ModelError, Problem

HERE = Path(__file__).parent
DATA = {
    "demo": HERE / "demo" / "tickets.jsonl",
    "general": HERE / "general" / "general.jsonl",
    "general-probe": HERE / "general" / "probe.jsonl",
}


def builtin(name: str) -> Path:
    """The file behind ``builtin:NAME``. Raises DataError D113 for a name that does not ship."""
    if name not in DATA:
        known = ", ".join(f"builtin:{known}" for known in sorted(DATA))
        raise DataError(Problem("D113", f'there is no built-in data "{name}"', fix=f"one of {known}"))
    return DATA[name]


def demo_data() -> Path:
    """800 support messages with their triage record as JSON; `demo/README.md` says how they were made."""
    return builtin("demo")


def nano() -> Path:
    """The folder of the base model `sartor/nano`. Raises ModelError M104 where this copy of Sartor lacks its weights."""
    folder = HERE / "nano"
    if not (folder / "model.safetensors").is_file():
        raise ModelError(
            Problem(
                "M104",
                "the weights of sartor/nano are not in this copy of Sartor",
                file=str(folder),
                fix="install the released wheel, or make them with scripts/make_nano.py; or name another model in base",
            )
        )
    return folder
