"""Placeholders for values that should not be learnt, and the way back.

    bob@example.com  <->  [EMAIL_3f9a2c]

A value is named by a keyed hash (BLAKE2b), so that it has the same placeholder wherever it stands, whatever the order of the rows.
A key file is JSON, readable by its owner alone: {"version": 1, "secret": hex, "values": {placeholder: value}}.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.personal import PLACEHOLDER, Found
from sartor.errors import DataError, Problem

SHORTEST, DIGITS = 6, 16
"""Hexadecimal digits of a placeholder: as few as tell all values apart."""
OPEN_SECRET = b"sartor"
"""Without a key file there is no secret."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The secret of a key file and the values it gives back."""

    secret: bytes
    values: Mapping[str, str]


def name_of(value: str, secret: bytes) -> int:
    """64 bits that stand for a value."""
    return int.from_bytes(hashlib.blake2b(value.encode(), key=secret, digest_size=8).digest(), "big")


def width_for(names: NDArray[np.uint64]) -> int:
    """Hexadecimal digits, 6 to 16, by which these names, all different, are told apart."""
    ordered = np.unique(names)
    for width in range(SHORTEST, DIGITS):
        heads = ordered >> np.uint64(4 * (DIGITS - width))
        if not np.any(heads[1:] == heads[:-1]):
            return width
    return DIGITS


def placeholder(kind: str, name: int, width: int) -> str:
    """[EMAIL_3f9a2c]"""
    return f"[{kind.upper()}_{name:016x}"[: len(kind) + 2 + width] + "]"


def named(found: Found, secret: bytes) -> int:
    """64 bits that stand for what was found."""
    return name_of(f"{found.kind}:{found.value}", secret)


def masked(text: str, finds: Iterable[Found], secret: bytes, width: int) -> str:
    """The text with a placeholder in place of each find; finds ascend and do not overlap."""
    pieces, end = [], 0
    for found in finds:
        pieces += [text[end : found.begin], placeholder(found.kind, named(found, secret), width)]
        end = found.end
    return "".join((*pieces, text[end:]))


def read_keys(path: Path) -> KeyFile:
    """The key file at `path`. Raises DataError S330 where there is none or it is damaged."""
    try:
        body = json.loads(path.read_bytes())
        values = body["values"]
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise ValueError("values")
        return KeyFile(bytes.fromhex(body["secret"]), values)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        what = "there is no key file here" if isinstance(fault, FileNotFoundError) else "this is no key file"
        fix = "name the file that redact wrote; without it nobody can give the values back"
        raise DataError(Problem("S330", what, file=str(path), fix=fix)) from fault


def keys_or_new(path: Path) -> KeyFile:
    """The key file at `path`; with a new secret and no values where there is none. Raises DataError S330."""
    return read_keys(path) if path.exists() else KeyFile(secrets.token_bytes(32), {})


def write_keys(path: Path, keys: KeyFile) -> None:
    """Write a key file that only its owner can read. Raises DataError S331 where the folder refuses."""
    body = {"version": 1, "secret": keys.secret.hex(), "values": dict(sorted(keys.values.items()))}
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(body, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as fault:
        what = f"the key file cannot be written ({fault.strerror})"
        raise DataError(Problem("S331", what, file=str(path), fix="give a folder that you can write to")) from fault


def unredact(text: str, values: Mapping[str, str]) -> str:
    """The text with every placeholder that `values` knows replaced by its value."""
    return PLACEHOLDER.sub(lambda found: values.get(found[0], found[0]), text)


def unredacted(value: Any, values: Mapping[str, str]) -> Any:
    """A JSON value with every text in it, names of keys included, given back."""
    if isinstance(value, str):
        return unredact(value, values)
    if isinstance(value, dict):
        return {unredact(name, values): unredacted(entry, values) for name, entry in value.items()}
    return [unredacted(entry, values) for entry in value] if isinstance(value, list) else value


def unredacted_lines(lines: Iterable[str], values: Mapping[str, str]) -> Iterator[str]:
    """Each line given back; one that is a JSON object or list stays one."""
    for line in lines:
        if PLACEHOLDER.search(line) is None:
            yield line
            continue
        try:
            body = json.loads(line)
        except ValueError:
            yield unredact(line, values)
        else:
            yield json.dumps(unredacted(body, values), ensure_ascii=False) + ("\n" if line.endswith("\n") else "")
