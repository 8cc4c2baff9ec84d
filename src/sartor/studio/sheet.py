"""The page of a blind sheet: one file that a rater opens without a server; it loads nothing and sends nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from sartor.console import printable
from sartor.data.annotate.guidelines import blocks
from sartor.studio.annotate import PAGE


def document(
    sheet: str, rater: str, entries: Sequence[Mapping[str, Any]], keys: Mapping[str, str], guidelines: str
) -> str:
    """The whole file: what `evaluate.sheets.entries` gives for this rater, with the page's own style and keys."""
    job = {
        "kind": "label",
        "annotator": printable(rater),
        "labels": [{"name": label, "shown": label, "key": key} for key, label in keys.items()],
        "guidelines": [asdict(block) | {"text": printable(block.text)} for block in blocks(guidelines)],
        "without": ["n", "f"],
    }
    body = {"sheet": sheet, "rater": rater, "job": job, "rows": [_shown(entry) for entry in entries]}
    parts = {
        "style": (PAGE / "page.css").read_text(encoding="utf-8"),
        "data": json.dumps(body, ensure_ascii=False).replace("<", "\\u003c"),
        "sheet": (PAGE / "sheet.js").read_text(encoding="utf-8"),
        "page": (PAGE / "page.js").read_text(encoding="utf-8"),
    }
    template = Environment(loader=FileSystemLoader(PAGE), autoescape=True).get_template("sheet.html.j2")
    digests = {name: _digest(text) for name, text in parts.items()}
    inside = {name: Markup(text) for name, text in parts.items()}  # noqa: S704 - our own files, and JSON without "<"
    return template.render(title="Rate", root="", token="", digests=digests, **inside)


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    turns = [{name: printable(text) for name, text in turn.items()} for turn in entry["turns"]]
    return {**entry, "turns": turns, "answers": [printable(text) for text in entry["answers"]]}


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
