"""What of an artifact goes to a hub: its files without what tells of this machine, and never one that holds a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.errors import ModelError, Problem
from sartor.export.certificate import FILE, TABLE
from sartor.recipe.secrets import mask
from sartor.store.atomic import COMPLETE

LEFT = (COMPLETE, FILE, TABLE)
"""Kept here: they name rows and files of this machine. The hub gets what the certificate says in `certified.json`."""
TEXTS = (".json", ".jinja", ".md", ".txt", "")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Sent:
    """One file as it goes to the hub; `content` where it is not as it lies there."""

    name: str
    size: int
    path: Path
    content: bytes | None = None


def files(folder: Path, below: str) -> Iterator[Sent]:
    """The files of an artifact. Raises ModelError M205 for one that holds what looks like a secret."""
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in LEFT:
            continue
        content = _told(path) if name in ("sartor.json", "adapter_config.json") else None
        if path.suffix in TEXTS or path.name == "Modelfile":
            text = (content or path.read_bytes()).decode("utf-8", errors="replace")
            _, found = mask(text)
            if found:
                what = f"{name} holds what looks like {found[0][2]}; nothing was sent"
                raise ModelError(Problem("M205", what, file=str(path), fix="take it out and export again"))
        yield Sent(below + name, len(content) if content is not None else path.stat().st_size, path, content)
    body = json.loads((folder / FILE).read_text(encoding="utf-8"))
    checks = [{key: check.get(key) for key in ("name", "value", "bound", "pass")} for check in body["checks"]]
    kept = {key: body[key] for key in ("format", "pass", "precision", "bounds", "runtime")} | {"checks": checks}
    told = (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode()
    yield Sent(f"{below}certified.json", len(told), folder / FILE, told)


def _told(path: Path) -> bytes:
    """Settings without paths of this machine: a base that is no hub id is named by its folder alone."""
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    body.pop("base_path", None)
    for key in ("base", "base_model_name_or_path"):
        value = body.get(key)
        if isinstance(value, str) and (value.startswith(("/", ".", "~")) or Path(value).exists()):
            body[key] = Path(value).name
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()


def require_name(repository: str) -> None:
    """Raises ModelError M205 for what is no name of a repository."""
    if not REPOSITORY.fullmatch(repository):
        raise ModelError(Problem("M205", f'"{repository}" is no name of a repository', fix="--push USER/NAME"))
