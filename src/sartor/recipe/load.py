"""Reads a recipe: every fault of the file and of the overrides at once, each with file, line, column and the mending."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sartor.errors import Problem, RecipeError
from sartor.recipe import override, secrets, shape
from sartor.recipe.check import MOST, check, widen
from sartor.recipe.node import Node, Place, Source, compose
from sartor.recipe.schema import Recipe
from sartor.recipe.stages import take_apart

LARGEST_BYTES = 1 << 20
CODES = {
    "R101": "The file is not YAML: indentation, a bracket or quote that is not closed, a tab.",
    "R102": "A key that does not exist; the message names the nearest one, or the section it belongs to.",
    "R103": "A value of the wrong type, outside its range, or an empty one.",
    "R104": "A key that is required is missing.",
    "R105": "A method, objective, optimizer, schedule, metric or format that does not exist.",
    "R106": "Values that do not go together.",
    "R107": "Something that a later version will have; this one does not.",
    "R108": "A key that is written twice.",
    "R109": "An anchor, alias, merge key or tag.",
    "R110": "The file cannot be read.",
    "R111": "The file is not UTF-8, or holds control characters.",
    "R112": "The file is too large, or nested too deep, for a recipe.",
    "R113": "The file is empty, or holds something else than one mapping.",
    "R114": "Something that looks like a key, token or password.",
    "R115": "An override that is not of the form key=value.",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A recipe that holds together, with what the user wrote."""

    recipe: Recipe
    text: str
    """As written, without overrides."""
    path: Path | None
    root: Path
    """The folder that relative paths in the recipe start from."""
    given: frozenset[str]
    """Dotted keys the user wrote in the file or as overrides, sections included: `data`, `data.sources[0].path`."""
    overrides: tuple[str, ...] = ()
    node: Node = field(repr=False, compare=False, default_factory=lambda: Node({}, Place("recipe")))
    """The tree of what was written, shorthands widened."""
    listed: tuple[Loaded, ...] = ()
    """The stages as recipes of their own, where `train` is a list; `recipe` then is the one the verdict is about: of the last
    stage that learns from the recipe's data."""
    own: frozenset[str] = frozenset()
    """Of a stage: the keys it does not share with the recipe."""

    @property
    def stages(self) -> tuple[Loaded, ...]:
        """What is trained, in order: at least one."""
        return self.listed or (self,)

    def where(self, key: str) -> str | None:
        """`recipe.yaml:3` or `override 1: ...` for a key the user wrote, None for any other."""
        if key not in self.given:
            return None
        place = self._node(key).head
        return place.file if place.line is None else f"{Path(place.file).name}:{place.line}"

    def problem(self, code: str, key: str, what: str, **more: Any) -> Problem:
        """A problem located at a key, or at the nearest section above it that was written; keywords as in `Problem`."""
        return self._node(key).head.problem(code, what, **more)

    def _node(self, key: str) -> Node:
        node = self.node
        for step in shape.steps(key) or ():
            child = node.child(step)
            if child is None:
                break
            node = child
        return node


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read the recipe file. Raises RecipeError with every problem."""
    name, path = str(path), Path(path)
    return _parse(_read(path, name), name, tuple(overrides), path)


def parse(text: str, name: str = "recipe", overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe from a text; relative paths start from the current folder. Raises RecipeError with every problem."""
    return _parse(text.removeprefix("\ufeff"), name, tuple(overrides), None)


def _parse(text: str, name: str, overrides: tuple[str, ...], path: Path | None) -> Loaded:
    masked, problems = _secrets(text, name)
    clean = []
    for number, each in enumerate(overrides, 1):
        shown, found = secrets.mask(each)
        problems += [_secret(Place(f"override {number}: {shown}"), kind) for _, _, kind in found]
        clean.append(shown)
    try:
        node, faults = compose(masked, name)
    except RecipeError as error:
        raise RecipeError(*problems, *error.problems) from None
    problems += faults
    if node is None or not isinstance(node.value, dict):
        raise RecipeError(*problems, _no_mapping(node, name))
    parts, faults = take_apart(node)
    problems += faults
    count = sum(part.number is not None for part in parts)
    made: list[Loaded] = []
    for part in parts:
        tree = widen(part.tree)
        faults = override.apply(tree, tuple(clean), part, count)
        recipe, others = check(tree)
        faults += [fault for fault in others if not _follows(fault, [*problems, *faults])]
        problems += [fault for fault in faults if fault not in problems]
        if recipe is not None:
            root = path.parent if path else Path()
            made.append(Loaded(recipe, text, path, root, _given(tree), overrides, tree, own=part.own))
    if problems:
        raise RecipeError(
            *sorted(problems, key=lambda each: (each.line is None, each.line or 0, each.column or 0, _number(each)))
        )
    main = [loaded for loaded in made if "data" not in loaded.own][-1]
    return replace(main, listed=tuple(made[:count]))


def _given(node: Node) -> frozenset[str]:
    return frozenset(shape.dotted(written) for written, _ in node.walk())


def _number(problem: Problem) -> int:
    """The number of the override it is about."""
    found = re.match(r"override (\d+):", problem.file or "")
    return int(found.group(1)) if found and problem.line is None else 0


def _follows(fault: Problem, earlier: list[Problem]) -> bool:
    """Whether it only repeats, as a wrong value, what was refused on the same line or in the same override."""
    same = [each for each in earlier if (each.file, each.line) == (fault.file, fault.line)]
    refused = fault.code == "R103" and any(each.code in ("R109", "R111", "R103") for each in same)
    return refused or any(each.column == fault.column for each in same)


def _read(path: Path, name: str) -> str:
    """The text of the file. Raises RecipeError R110, R111 or R112."""
    where = Place(name)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        near = _neighbour(path)
        fix = f"did you mean {near}?" if near else "sartor init writes a recipe"
        raise RecipeError(where.problem("R110", "there is no such file", fix=fix)) from None
    except IsADirectoryError:
        raise RecipeError(where.problem("R110", "this is a folder", fix=f"{path / 'recipe.yaml'}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(where.problem("R110", f"the file cannot be read: {reason}")) from None
    if len(data) > LARGEST_BYTES:
        raise RecipeError(where.problem("R112", "larger than 1 MiB: this is no recipe", fix="name data files in it"))
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fix = f"iconv -f UTF-16 -t UTF-8 {name} > new.yaml"
        raise RecipeError(Place(name, 1, 1).problem("R111", "the file is UTF-16", fix=fix))
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        place = Source(name, before).place(len(before))
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise RecipeError(
            Place(name, place.line, place.column).problem("R111", what, fix="save the file as UTF-8")
        ) from None


def _neighbour(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    known = {other.name: str(other) for other in path.parent.iterdir() if other.suffix in (".yaml", ".yml")}
    return next((known[name] for name in get_close_matches(path.name, known, n=1)), None)


def _secrets(text: str, name: str) -> tuple[str, list[Problem]]:
    masked, found = secrets.mask(text)
    source = Source(name, masked)
    return masked, [_secret(source.place(start, end), kind) for start, end, kind in found[:MOST]]


def _secret(place: Place, kind: str) -> Problem:
    return place.problem("R114", f"this looks like {kind}", fix=secrets.FIX)


def _no_mapping(node: Node | None, name: str) -> Problem:
    fix = "base: sartor/nano and data: YOUR_FILE are enough to begin"
    if node is None or node.value is None:
        return Place(name, 1, 1).problem("R113", "the recipe is empty", fix=fix)
    found = "a list" if isinstance(node.value, list) else "a single value"
    return node.place.problem("R113", f"a recipe is a mapping of keys to values, not {found}", fix=fix)
