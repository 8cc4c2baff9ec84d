"""The text of a recipe as a tree in which every key and value knows its line and column.

Built from PyYAML's parse events, not from its constructors, so nothing in a recipe can become an object; scalars follow YAML
1.2 (`yes` is text, `1e-4` is a number). Anchors, aliases, tags, duplicate keys and second documents are refused.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from sartor.errors import Problem, RecipeError

DEEPEST = 50
LARGEST = 10_000
WIDEST = 160
"""A longer source line is cut in messages."""

Scalar = str | int | float | bool | None
Step = str | int

NULL = re.compile(r"~|null|Null|NULL|")
BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
WHOLE = re.compile(r"[-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that would move or hide others in a message."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: 1-based line and column, its width, and the source line; or an override."""

    file: str
    line: int | None = None
    column: int | None = None
    width: int = 0
    excerpt: str | None = None

    def problem(self, code: str, what: str, **more: Any) -> Problem:
        """A problem at this place; keywords as in `Problem`."""
        return Problem(
            code,
            what,
            file=self.file,
            line=self.line,
            column=self.column,
            excerpt=self.excerpt,
            caret=self.width,
            **more,
        )


@dataclass(slots=True)
class Node:
    """A value with its place and, where it belongs to a key, the place of the key."""

    value: Any
    """A scalar, a dict of nodes, or a list of nodes."""
    place: Place
    key: Place | None = None

    @property
    def head(self) -> Place:
        """The key where there is one: what to point at when the value is long or absent."""
        return self.key or self.place

    def child(self, step: Step) -> Node | None:
        """The node under a key or index, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and 0 <= step < len(self.value):
            entry: Node = self.value[step]
            return entry
        return None

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def walk(self, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Node]]:
        """Every node below this one with its path."""
        entries: Any = ()
        if isinstance(self.value, dict):
            entries = self.value.items()
        elif isinstance(self.value, list):
            entries = enumerate(self.value)
        for step, node in entries:
            yield (*path, step), node
            yield from node.walk((*path, step))


def lift(value: Any, place: Place) -> Node:
    """Plain containers around nodes as a tree; what is new stands at `place`."""
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        value = {key: lift(entry, place) for key, entry in value.items()}
    elif isinstance(value, list | tuple):
        value = [lift(entry, place) for entry in value]
    return Node(value, place)


@dataclass(slots=True)
class Source:
    """A text and the places in it."""

    name: str
    text: str
    starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.starts = [0, *(found.end() for found in re.finditer(r"\r\n|\n|\r", self.text))]

    def place(self, start: int, end: int | None = None) -> Place:
        """The place of text[start:end], cut at the end of its first line."""
        line = bisect_right(self.starts, start)
        begin = self.starts[line - 1]
        following = self.starts[line] if line < len(self.starts) else len(self.text)
        excerpt = self.text[begin : min(following, begin + WIDEST + 1)].rstrip("\r\n")
        column = start - begin
        width = max(1, min(end or start, begin + len(excerpt)) - start)
        if column + width > WIDEST:
            return Place(self.name, line, column + 1)
        shown = excerpt if len(excerpt) <= WIDEST else excerpt[:WIDEST] + "…"
        return Place(self.name, line, column + 1, width, INVISIBLE.sub(" ", shown))


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    node: Node
    key: tuple[str | None, Place] | None = None
    """Text and place of the key whose value comes next; the text is None where the key was refused."""


def compose(text: str, name: str) -> tuple[Node | None, list[Problem]]:
    """(tree, problems). The tree is None for an empty text.

    Raises RecipeError where reading cannot go on: bad syntax, too deep, too large, a second document. The error then
    holds the earlier problems as well.
    """
    builder = _Builder(Source(name, text))
    found = UNPRINTABLE.search(text)
    if found:
        place = builder.source.place(found.start(), found.end())
        builder.stop(place, "R111", f"control character {ascii(found.group())[1:-1]}", "remove it")
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            builder.see(loader.get_event())  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        said = error.problem or ""
        earlier = error.context_mark and (_unclosed(said) or "could not find expected ':'" in said)
        mark = error.context_mark if earlier else error.problem_mark or error.context_mark
        what, fix = _plainly(error.problem or error.context or "", text[mark.index : mark.index + 1] if mark else "")
        builder.stop(builder.source.place(mark.index if mark else 0), "R101", what, fix)
    except (ValueError, OverflowError):
        builder.stop(builder.source.place(loader.get_mark().index), "R101", "this escape is no character", None)
    finally:
        loader.dispose()
    return builder.root, builder.problems


def _unclosed(said: str) -> bool:
    return any(part in said for part in ("expected ',' or", "end of stream", "but found '<stream end>'"))


def _plainly(said: str, character: str) -> tuple[str, str | None]:
    if character == "\t":
        return "a tab where YAML wants spaces", "indent with spaces"
    if "mapping values are not allowed" in said:
        return 'a ":" that starts no value', 'put text that holds ": " in quotes, and check the indentation'
    if "could not find expected ':'" in said:
        return 'a key without ":"', "write  key: value"
    if "cannot start any token" in said:
        return f"text cannot start with {character}", "put it in quotes"
    if "block end" in said:
        return "the indentation fits no line above", "align it with the keys of its section"
    if _unclosed(said):
        kind = "quote" if character in ("'", '"') else "bracket"
        return (
            f"this {kind} is not closed",
            "close it" if kind == "quote" else "close it, or put a comma between the entries",
        )
    return f"not YAML: {said}", None


@dataclass(slots=True)
class _Builder:
    source: Source
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    latest: Node = field(init=False)
    documents: int = 0
    count: int = 0

    def stop(self, place: Place, code: str, what: str, fix: str | None) -> None:
        raise RecipeError(*self.problems, place.problem(code, what, fix=fix))

    def refuse(self, place: Place, code: str, what: str, fix: str) -> None:
        self.problems.append(place.problem(code, what, fix=fix))

    def span(self, event: yaml.Event) -> Place:
        """Where the event stands; of a mapping or list only its first character."""
        start, end = event.start_mark, event.end_mark
        assert start is not None
        assert end is not None
        one = isinstance(event, yaml.CollectionStartEvent)
        return self.source.place(start.index, start.index + 1 if one else end.index)

    def see(self, event: yaml.Event) -> None:
        """Take in one event."""
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.stop(self.span(event), "R113", "a second document begins here", "one file holds one recipe")
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)

    def _node(self, event: yaml.NodeEvent) -> None:
        container = isinstance(event, yaml.CollectionStartEvent)
        place = self.span(event)
        self.count += 1
        if self.count > LARGEST:
            self.stop(
                place,
                "R112",
                f"more than {LARGEST:,} values: this is no recipe",
                "name data files, do not include them",
            )
        if container and len(self.stack) >= DEEPEST:
            self.stop(place, "R112", f"nested deeper than {DEEPEST}", None)
        if isinstance(event, yaml.AliasEvent):
            self.refuse(place, "R109", "aliases are not allowed in a recipe", "write the value out")
        elif event.anchor is not None:
            self.refuse(place, "R109", "anchors are not allowed in a recipe", f"remove &{show(event.anchor)}")
        if getattr(event, "tag", None) is not None:
            self.refuse(place, "R109", "tags are not allowed in a recipe", "remove the word that starts with !")
        if self._wants_key():
            self._key(event, place)
        elif isinstance(event, yaml.ScalarEvent):
            self._add(Node(self._scalar(event.value, place, event.style is None), place))
        else:
            self._add(Node(_empty(event), place))
        if container:
            self.stack.append(_Open(self.latest))

    def _wants_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].node.value, dict) and self.stack[-1].key is None

    def _key(self, event: yaml.NodeEvent, place: Place) -> None:
        top = self.stack[-1]
        top.key = (None, place)
        self.latest = Node(_empty(event), place)
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(place, "R101", "a key must be plain text", "write  key: value")
        elif event.value == "<<" and event.style is None:
            self.refuse(place, "R109", "merge keys are not allowed in a recipe", "write the keys out")
        elif event.value in top.node.value:
            first = top.node.value[event.value].key
            what = f'key "{show(event.value)}" appears twice (first in line {first.line})'
            self.refuse(place, "R108", what, "keep one of them")
        else:
            top.key = (event.value, place)

    def _add(self, node: Node) -> None:
        self.latest = node
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if top.key is None:
            top.node.value.append(node)
            return
        text, node.key = top.key
        top.key = None
        if text is not None:
            top.node.value[text] = node

    def _scalar(self, text: str, place: Place, plain: bool) -> Scalar:
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.refuse(place, "R111", "half of a surrogate pair is no character", "write the character itself")
            return ""
        value = resolve(text) if plain else text
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            self.refuse(place, "R103", "this number is too large", "numbers end at 1.8e308")
        return value


def _empty(event: yaml.NodeEvent) -> dict[str, Node] | list[Node] | None:
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    return [] if isinstance(event, yaml.SequenceStartEvent) else None


def resolve(text: str) -> Scalar:
    """The value of a plain scalar by the core schema of YAML 1.2, without infinities."""
    if NULL.fullmatch(text):
        return None
    if BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if WHOLE.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if len(text) < 100 and NUMBER.fullmatch(text) else text


def show(text: str) -> str:
    """The text as it can stand in a message: short, and with invisible characters spelt out."""
    clean = INVISIBLE.sub(lambda found: ascii(found.group())[1:-1], text)
    return clean if len(clean) <= 60 else clean[:60] + "…"
