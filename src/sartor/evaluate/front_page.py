"""The page of an interpolation: one HTML file without scripts and without network, the front as a picture and a table."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from sartor.console import printable
from sartor.evaluate.curves import front
from sartor.evaluate.numbers import score_text


def front_page(found: Mapping[str, Any]) -> str:
    """The page of what `flow.interpolate` tells as JSON."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["score"] = score_text
    style = _asset("report.css") + _asset("front.css")
    return environment.from_string(_asset("front.html.j2")).render(
        found=found,
        style=Markup(style),  # noqa: S704 - our own files
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        picture=front(found["points"], found["recommended"], found["task"], found["general"], width=720, height=420),
    )


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return resources.files("sartor.evaluate").joinpath(name).read_text(encoding="utf-8")
