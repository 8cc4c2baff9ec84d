"""The data report: one HTML file that carries its data and asks no network; every text is shown as text."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Characters that could end the element that holds the JSON, or a line of it."""


def page(body: Mapping[str, Any]) -> str:
    """The page that draws `body`, which `flow/data_report.py` describes. Its only script and style are named by hash."""
    style, script = _asset("page.css"), _asset("page.js")
    parts = {
        "style": style,
        "script": script,
        "style_digest": _digest(style),
        "script_digest": _digest(script),
        "body": embedded(body),
    }
    return _asset("page.html") % parts


def embedded(body: Mapping[str, Any]) -> str:
    """The body as JSON that no text in it can break out of."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, written in UNSAFE.items():
        text = text.replace(character, written)
    return text.encode("utf-8", "backslashreplace").decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return resources.files("sartor.data").joinpath(name).read_text(encoding="utf-8")
