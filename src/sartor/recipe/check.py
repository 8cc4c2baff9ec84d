"""From a located tree to a recipe: every fault at once, in words, under the key or value that has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sartor import registry
from sartor.errors import Problem
from sartor.recipe import planned, shape
from sartor.recipe.node import Node, Place, Step, lift, show
from sartor.recipe.schema import Recipe, Rule, Section, UnknownName

MOST = 100
"""Faults that are spelt out; a file with more is not a recipe."""


def widen(node: Node, annotation: Any = Recipe) -> Node:
    """The tree with every shorthand written out: `method: lora` becomes `method: {lora: {}}`. Places stay."""
    found = shape.forms(annotation)
    if isinstance(node.value, str) and node.value in shape.literals(annotation):
        return node
    for form in found:
        section = form.section if form.section and issubclass(form.section, Section) else None
        wider = form.component or form.every or section
        if wider:
            node = Node(lift(wider.widen(node.value), node.place).value, node.place, node.key)
        if form.component and isinstance(node.value, dict):
            node.value = {name: _options(child) for name, child in node.value.items()}
    if isinstance(node.value, dict | list):
        entries = node.value.items() if isinstance(node.value, dict) else enumerate(node.value)
        for step, child in list(entries):
            inner = shape.step_into(annotation, step)
            if inner is not None:
                node.value[step] = widen(child, inner)
    return node


def _options(node: Node) -> Node:
    """`lora:` with nothing behind it means no options."""
    return Node({}, node.place, node.key) if node.value is None else node


def check(node: Node) -> tuple[Recipe | None, list[Problem]]:
    """(recipe, no problems), or (None, problems) for a widened tree."""
    try:
        return Recipe.model_validate(node.plain()), []
    except ValidationError as error:
        faults = error.errors(include_url=False)[:MOST]
        return None, list(_problems(node, faults))


def _problems(root: Node, faults: list[ErrorDetails]) -> Iterator[Problem]:
    located = [(fault, *_locate(root, fault)) for fault in faults]
    located.sort(key=lambda each: isinstance(each[0].get("ctx", {}).get("error"), Rule), reverse=True)
    paths = {path for _, path, _ in located}
    likely = {
        near
        for fault, path, _ in located
        if fault["type"] == "extra_forbidden"
        for near in [_near(str(path[-1]), shape.keys(shape.at(path[:-1])))]
        if near is not None
    }
    said: set[tuple[Step, ...]] = set()
    for fault, path, node in located:
        kind = fault["type"]
        below = any(len(other) > len(path) and other[: len(path)] == path for other in paths)
        if path in said or (below and kind not in ("missing", "value_error")):
            continue
        if kind == "missing" and path[-1] in likely:
            continue
        said.add(path)
        yield _problem(fault, path, node)


def _locate(root: Node, fault: ErrorDetails) -> tuple[tuple[Step, ...], Node]:
    """The path of a fault in the recipe, without pydantic's names of union members, and the deepest node on it."""
    path: tuple[Step, ...] = ()
    node = root
    for step in fault["loc"]:
        node, path = _through_component(node, path, step)
        child = node.child(step)
        if child is not None:
            node, path = child, (*path, step)
    if fault["type"] == "missing":
        path = (*path, fault["loc"][-1])
    elif fault["type"] == "model_type":
        node, path = _through_component(node, path)
    return path, node


def _through_component(node: Node, path: tuple[Step, ...], step: Step | None = None) -> tuple[Node, tuple[Step, ...]]:
    """`lora` stands between `method` and its option `step`, but not in pydantic's location."""
    is_component = any(form.component for form in shape.forms(shape.at(path)))
    if not is_component or not isinstance(node.value, dict) or len(node.value) != 1:
        return node, path
    ((name, inner),) = node.value.items()
    options = shape.step_into(shape.at(path), name)
    if options is None or not (step is None or step in options.model_fields or inner.child(step)):
        return node, path
    return inner, (*path, name)


def _problem(fault: ErrorDetails, path: tuple[Step, ...], node: Node) -> Problem:
    key = shape.dotted(path)
    kind = fault["type"]
    error = fault.get("ctx", {}).get("error")
    if kind == "extra_forbidden":
        return unknown_key(path, node.head)
    if kind == "missing":
        return _missing(path, node)
    if isinstance(error, UnknownName):
        named = node.child(error.key) if error.key else None
        only = next(iter(node.value.values())) if isinstance(node.value, dict) and len(node.value) == 1 else None
        return _unknown_name(error, key, named.place if named else only.head if only else node.place)
    if isinstance(error, Rule):
        inner = _through_component(node, path)[0]
        return (inner.child(error.key) or inner).head.problem("R106", str(error))
    if error is not None and not any(form.component for form in shape.forms(shape.at(path))):
        return _point(node).problem("R103", f"{key}: {error}")
    annotation = shape.at(path)
    if node.value is None:
        fix = "give it a value, or remove the key"
        return node.head.problem("R103", f"{key} is empty; it must be {shape.expects(annotation)}", fix=fix)
    return _wrong(key, annotation, node)


def _wrong(key: str, annotation: Any, node: Node) -> Problem:
    value = node.value
    if isinstance(value, str) and value in planned.VALUES.get(re.sub(r"\[\d+]", "[]", key), ()):
        what = f'{key}: "{value}" is not available in this version; it can be {shape.expects(annotation)}'
        return node.place.problem("R107", what)
    if value == []:
        return _point(node).problem("R103", f"{key} needs at least one entry")
    what = f"{key} must be {shape.expects(annotation)}, not {_shown(value)}"
    if isinstance(value, str) and any(form.items[-1:] == (Ellipsis,) for form in shape.forms(annotation)):
        return _point(node).problem("R103", what, fix=f"{key.rpartition('.')[2]}: [{show(value)}]")
    near = _near(value, shape.literals(annotation)) if isinstance(value, str) else None
    return _point(node).problem("R103", f'{what}; did you mean "{near}"?' if near else what)


def _point(node: Node) -> Place:
    return node.place if not isinstance(node.value, dict | list) else node.head


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{show(value)}"' if isinstance(value, str) else repr(value)


def unknown_key(path: tuple[Step, ...], place: Place) -> Problem:
    """What to say about a key that does not exist: the nearest one, or the section it belongs to."""
    name, parent = str(path[-1]), shape.at(path[:-1])
    section = f" in {shape.dotted(path[:-1])}" if len(path) > 1 else ""
    said = f'unknown key "{show(name)}"'
    if name in planned.KEYS:
        return place.problem("R107", f'"{name}"{section} is not available in this version', fix="remove it")
    allowed = shape.keys(parent)
    elsewhere = planned.ELSEWHERE.get(name.lower()) or _among(shape.homes().get(name, ()), path)
    if elsewhere:
        return place.problem("R102", f"{said}{section}; it belongs at {elsewhere}")
    near = _near(name, allowed)
    if near:
        return place.problem("R102", f'{said}; did you mean "{near}"?')
    far = _near(name, list(shape.homes()), 0.8)
    if far:
        return place.problem("R102", f"{said}{section}; did you mean {_among(shape.homes()[far], path)}?")
    fix = f"keys that can stand here: {', '.join(allowed)}" if allowed else "it has no settings"
    return place.problem("R102", f"{said}{section}", fix=fix)


def _among(homes: tuple[str, ...], path: tuple[Step, ...]) -> str:
    """The places of a key, those below the section at hand first."""
    here = shape.dotted(path[:-1]) + "."
    inside = [home for home in homes if home.startswith(here)] if len(path) > 1 else []
    return " or ".join((inside or list(homes))[:3])


def _missing(path: tuple[Step, ...], node: Node) -> Problem:
    owner = next(form.section for form in shape.forms(shape.at(path[:-1])) if form.section)
    field = owner.model_fields[str(path[-1])]
    example = f"{path[-1]}: {field.examples[0]}" if field.examples else None
    place = node.head if len(path) > 1 else Place(node.place.file, 1, 1)
    return place.problem("R104", f'"{shape.dotted(path)}" is missing: {field.description}', fix=example)


def _unknown_name(error: UnknownName, key: str, place: Place) -> Problem:
    names = registry.names(error.kind)
    if error.name in planned.NAMES.get(error.kind, ()):
        what = f'{error.kind} "{error.name}" is not available in this version'
        return place.problem("R107", what, fix=f"available: {', '.join(names)}")
    near = _near(error.name, names)
    if near:
        return place.problem("R105", f'unknown {error.kind} "{show(error.name)}"; did you mean "{near}"?')
    having = [name for name in names if error.name in registry.component(error.kind, name).Options.model_fields]
    if having:
        fix = f"{key.rpartition('.')[2]}: {{{having[0]}: {{{error.name}: ...}}}}"
        return place.problem("R105", f'"{error.name}" is an option of the {error.kind} {" or ".join(having)}', fix=fix)
    return place.problem("R105", f'unknown {error.kind} "{show(error.name)}"', fix=f"known: {', '.join(names)}")


def _near(word: str, known: list[str], cutoff: float = 0.6) -> str | None:
    if len(word) > 60:
        return None
    lower = {name.lower(): name for name in known}
    return next((lower[name] for name in get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)), None)
