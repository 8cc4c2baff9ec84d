"""Reading an answer as strict JSON (RFC 8259), and its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final


class _Invalid:
    """Stands for a text that is not JSON; null is a value of its own."""


INVALID: Final = _Invalid()
DEEPEST = 100


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def parse(text: str) -> Any:
    """The value of a text, or `INVALID`. NaN, trailing words, code fences and nesting beyond `DEEPEST` are invalid."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return INVALID
    return INVALID if _deeper(value, DEEPEST) else value


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _deeper(entry, levels - 1) for entry in inner)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value) of every leaf: {"a": {"b": 1}, "c": [2]} gives a.b=1 and c[0]=2. An empty object is one leaf."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from fields(entry, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, entry in enumerate(value):
            yield from fields(entry, f"{path}[{index}]")
    else:
        yield path, canonical(value)


def canonical(value: Any) -> str:
    """One text for equal values: keys sorted, 1.0 written as 1; true stays different from 1."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
