"""Values as YAML on one line, read alike by readers of YAML 1.1 and 1.2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sartor.recipe.node import INVISIBLE, UNPRINTABLE, resolve

OLD_WORDS = frozenset({"y", "n", "yes", "no", "on", "off"})
"""Text in YAML 1.2, truth values in YAML 1.1."""


def inline(value: Any) -> str:
    """A value made of scalars, mappings and lists."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inline(key)}: {inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(entry) for entry in value) + "]"
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    bare = re.fullmatch(r"[A-Za-z_./][\w./+-]*", value, re.ASCII) and isinstance(resolve(value), str)
    if bare and value.lower() not in OLD_WORDS and value.strip("."):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    for hidden in (INVISIBLE, UNPRINTABLE):
        escaped = hidden.sub(lambda found: f"\\u{ord(found.group()):04x}", escaped)
    return f'"{escaped}"'
