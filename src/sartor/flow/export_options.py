"""Exporters and their options as they are written on a command line. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import ValidationError

from sartor import registry
from sartor.errors import InputError, Problem
from sartor.recipe.schema import Component


def chosen(names: str, settings: Sequence[str]) -> list[Component]:
    """The exporters of `merged,gguf` with `gguf.quantize=q8_0 ...`. Raises InputError U101 for what there is not."""
    wanted: dict[str, dict[str, Any]] = {name.strip(): {} for name in names.split(",") if name.strip()}
    known = registry.names("exporter")
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise _wrong(f'there is no export "{name}"{hint}', f"--as {', '.join(known)}")
    if not wanted:
        raise _wrong("--as names nothing", f"--as {', '.join(known)}")
    for setting in settings:
        key, equals, value = setting.partition("=")
        name, dot, option = key.partition(".")
        if not equals or not dot or name not in wanted:
            raise _wrong(f"{setting!r} is no option of what --as names", "--set NAME.OPTION=VALUE")
        wanted[name][option] = yaml.safe_load(value)
    return [_component(name, options) for name, options in wanted.items()]


def _component(name: str, options: dict[str, Any]) -> Component:
    kind = registry.component("exporter", name).Options
    try:
        return Component(name=name, options=kind.model_validate(options))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, (name, *first["loc"])))
        keys = ", ".join(kind.model_fields) or "none"
        raise _wrong(f"{where}: {first['msg']}", f"options of {name}: {keys}") from fault


def _wrong(what: str, fix: str) -> InputError:
    return InputError(Problem("U101", what, fix=fix))
