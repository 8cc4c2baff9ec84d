"""What decides the numbers of a run, field by field, so that a resumed run can be refused when one of them has changed.

Files are identified by sha256 of every byte, read anew each time; nothing is trusted because its size or date is the same.
A field is a dotted name and a JSON value: ``recipe.train.optimizer.adamw.learning_rate``, ``data.tickets.jsonl``,
``base.model.safetensors``, ``versions.torch``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.errors import Problem
from sartor.store import atomic

HARMLESS = (
    "recipe.name",
    "recipe.goal.statement",
    "recipe.data.max_line_mb",
    "recipe.train.checkpoint",
)
"""Fields that change no number."""

ROUNDING = (
    "versions",
    "threads",
    "processor",
    "recipe.train.threads",
    "recipe.train.parallel",
    "recipe.train.micro_batch_tokens",
    "recipe.train.gradient_checkpointing",
    "recipe.train.compile",
    "recipe.evaluate.batch",
)
"""Fields that change numbers by rounding only: the run goes on, but is no longer equal to the last bit."""

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Field -> value, sorted by field."""

    fields: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 (hex) over the fields that decide the result; the same for runs that differ by rounding only."""
        decisive = {key: value for key, value in self.fields.items() if _weight(key) == "error"}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def json(self) -> dict[str, Any]:
        """The fields as a JSON object; `Fingerprint(fields)` reads it back."""
        return dict(self.fields)


def take(
    *,
    recipe: Mapping[str, Any],
    data: Mapping[str, Path],
    base: Path,
    template: str | None,
    tokenizer: Sequence[Path],
    dtype: str,
    threads: int,
    versions: Mapping[str, str | None],
    processor: str | None = None,
) -> Fingerprint:
    """The fingerprint of a run about to begin.

    `recipe` is the resolved recipe as JSON values, `data` maps each data file as the user wrote it to where it is, `base`
    is the model folder, `tokenizer` lists its files. Raises SartorError F131 for a file that cannot be read.
    """
    fields: dict[str, Any] = {f"recipe.{key}": value for key, value in flatten(recipe)}
    fields |= {f"data.{name}": of_file(path) for name, path in data.items()}
    fields |= {f"base.{path.name}": of_file(path) for path in weights(base)}
    fields |= {f"tokenizer.{path.name}": of_file(path) for path in tokenizer}
    fields["template"] = None if template is None else of_text(template)
    fields |= {f"versions.{name}": number for name, number in versions.items()}
    fields |= {"dtype": dtype, "threads": threads, "processor": processor}
    return Fingerprint(dict(sorted(fields.items())))


def compare(old: Fingerprint, new: Fingerprint, *, allow: Iterable[str] = ()) -> list[Problem]:
    """What has changed since the run began, one problem per field, errors first.

    Error F120: the field decides the result. Warning F121: the result is no longer equal to the last bit. Info F122: an
    error the user has allowed by naming the field, its last part, or a section of it. Error F123: `allow` names no field.
    """
    allow = tuple(allow)
    known = old.fields.keys() | new.fields.keys()
    problems = [_unknown(key, known) for key in allow if not any(_names(key, field) for field in known)]
    for field in sorted(known):
        before, after = old.fields.get(field, ABSENT), new.fields.get(field, ABSENT)
        level = _weight(field)
        if before == after or level == "info":
            continue
        change = f"{field.removeprefix('recipe.')} was {_shown(before)} when this run began and is {_shown(after)} now"
        if level == "warning":
            problems.append(Problem("F121", f"{change}: the result will not be bitwise the same", level="warning"))
        elif any(_names(key, field) for key in allow):
            problems.append(Problem("F122", f"{change}: allowed", level="info"))
        else:
            short = field.removeprefix("recipe.")
            fix = f"change it back, start a new run with another --out, or accept it with --allow-change {short}"
            problems.append(Problem("F120", change, fix=fix))
    order = ("error", "warning", "info")
    return sorted(problems, key=lambda problem: order.index(problem.level))


def of_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes, in constant memory."""
    with atomic.coded(path, verb="read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_text(text: str) -> str:
    """sha256 (hex) of UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()


def weights(folder: Path) -> list[Path]:
    """The files of a model folder that decide its function: weights and their configuration."""
    settings = ("config.json", "adapter_config.json", "sartor_adapter.json")
    return sorted([*folder.glob("*.safetensors"), *(path for name in settings for path in folder.glob(name))])


def flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their plain values. A component {name, options} becomes ``key: name`` and ``key.name.option``.

    An empty mapping is a value, so that a component without options keeps its name: ``method.full: {}``.
    """
    if isinstance(value, Mapping) and value:
        if value.keys() == {"name", "options"}:
            yield key, value["name"]
            yield from flatten(value["options"], f"{key}.{value['name']}")
            return
        for name, inner in value.items():
            yield from flatten(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        yield f"{key}.count", len(value)
        for index, inner in enumerate(value):
            yield from flatten(inner, f"{key}[{index}]")
    else:
        yield key, value


def _weight(field: str) -> str:
    if any(_within(field, section) for section in HARMLESS):
        return "info"
    return "warning" if any(_within(field, section) for section in ROUNDING) else "error"


def _within(field: str, section: str) -> bool:
    return field == section or field.startswith((f"{section}.", f"{section}["))


def _names(key: str, field: str) -> bool:
    short = field.removeprefix("recipe.")
    return _within(field, key) or _within(short, key) or short.endswith(f".{key}")


def _unknown(key: str, known: Iterable[str]) -> Problem:
    near = difflib.get_close_matches(key, [field.removeprefix("recipe.") for field in known], n=1, cutoff=0.4)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return Problem("F123", f'--allow-change "{key}" is no field of this run{hint}', fix="leave it out, or correct it")


def _shown(value: Any) -> str:
    """A value as JSON; a hash by its first twelve digits."""
    if value == ABSENT:
        return ABSENT
    text = json.dumps(value, ensure_ascii=False)
    return f"{text[1:13]}..." if isinstance(value, str) and len(value) == 64 else text
