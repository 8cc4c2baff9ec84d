"""The schema as a tree one can walk: what may stand at a key, in words, and every key there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from sartor import registry
from sartor.options import Options
from sartor.recipe.node import Step
from sartor.recipe.schema import All, Component, NameOf, Of, Recipe

SHOWN = 8
"""Names listed in a message."""


@dataclass(frozen=True, slots=True)
class Form:
    """One of the forms a value may take: a type without unions, and what was annotated to it."""

    type: Any
    notes: tuple[Any, ...] = ()

    @property
    def component(self) -> Of | None:
        """The kind of component that stands here."""
        return next((note for note in self.notes if isinstance(note, Of)), None) if self.type is Component else None

    @property
    def every(self) -> All | None:
        """Whose components a list here holds, where `all` may stand for them."""
        return next((note for note in self.notes if isinstance(note, All)), None)

    @property
    def section(self) -> type[Options] | None:
        """The section that stands here."""
        plain = isinstance(self.type, type) and issubclass(self.type, Options) and self.type is not Component
        return self.type if plain else None

    @property
    def items(self) -> tuple[Any, ...]:
        """The types of a list's entries; one type and an ellipsis where there may be any number."""
        return get_args(self.type) if get_origin(self.type) is tuple else ()


def forms(annotation: Any, notes: tuple[Any, ...] = ()) -> list[Form]:
    """Every form of a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *own = get_args(annotation)
        flat = [note for each in own for note in (each.metadata if isinstance(each, FieldInfo) else [each])]
        return forms(inner, (*notes, *flat))
    if origin in (Union, UnionType):
        return [form for each in get_args(annotation) for form in forms(each, notes)]
    return [Form(annotation, notes)]


def field_type(field: FieldInfo) -> Any:
    """The type of a field with its constraints."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def step_into(annotation: Any, step: Step) -> Any | None:
    """The type under a key or index; None where there is no such key."""
    for form in forms(annotation):
        if isinstance(step, int):
            if form.items:
                return form.items[0] if form.items[-1] is Ellipsis else form.items[min(step, len(form.items) - 1)]
        elif form.section:
            if step in form.section.model_fields:
                return field_type(form.section.model_fields[step])
        elif form.component:
            if step in registry.names(form.component.kind):
                return registry.component(form.component.kind, step).Options
        elif get_origin(form.type) is dict:
            return get_args(form.type)[1]
    return None


def at(path: tuple[Step, ...]) -> Any | None:
    """The type at a path of the recipe; None where there is no such key."""
    annotation: Any = Recipe
    for step in path:
        annotation = step_into(annotation, step)
        if annotation is None:
            return None
    return annotation


def keys(annotation: Any) -> list[str]:
    """The keys that may stand directly below."""
    found: list[str] = []
    for form in forms(annotation):
        if form.section:
            found += form.section.model_fields
        elif form.component:
            found += registry.names(form.component.kind)
    return found


def dotted(path: tuple[Step, ...]) -> str:
    """`data.sources[0].path`"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def steps(key: str) -> tuple[Step, ...] | None:
    """The path of a dotted key; None where it is not of that form."""
    if not re.fullmatch(r"[^.\[\]]+(\[\d{1,6}\])*(\.[^.\[\]]+(\[\d{1,6}\])*)*", key):
        return None
    return tuple(int(step[1:-1]) if step.startswith("[") else step for step in re.findall(r"\[\d+\]|[^.\[\]]+", key))


def expects(annotation: Any) -> str:
    """What may be written here, in words."""
    found = forms(annotation)
    literals = [value for form in found if get_origin(form.type) is Literal for value in get_args(form.type)]
    words = [_words(form) for form in found if form.type is not NoneType and get_origin(form.type) is not Literal]
    choices = [str(value).lower() if isinstance(value, bool) else str(value) for value in literals]
    if choices and not words:
        return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    return ", or ".join([*words, *choices])


def literals(annotation: Any) -> list[str]:
    """The fixed texts that may be written here."""
    found = [value for form in forms(annotation) if get_origin(form.type) is Literal for value in get_args(form.type)]
    named = [note for form in forms(annotation) for note in form.notes if isinstance(note, NameOf)]
    return [value for value in found if isinstance(value, str)] + [
        name for note in named for name in registry.names(note.kind)
    ]


def _words(form: Form) -> str:
    if form.type is bool:
        return "true or false"
    if form.type in (int, float):
        return _number(form)
    if form.type is str:
        named = next((note for note in form.notes if isinstance(note, NameOf)), None)
        if named is None:
            return "text"
        function = ", or file.py:function" if named.or_function else ""
        return f"the name of a {named.kind} ({_few(registry.names(named.kind))}){function}"
    if form.component:
        kind = form.component.kind
        function = ", or file.py:function" if form.component.or_function else ""
        return f"the name of {_a(kind)} ({_few(registry.names(kind))}), or {{name: {{option: value}}}}{function}"
    if form.section:
        names = list(form.section.model_fields)
        return f"a mapping with the keys {_few(names)}" if names else "left out: it has no settings"
    if form.items:
        if form.items[-1] is Ellipsis:
            return f"a list, each entry {expects(form.items[0])}"
        return f"a list of {len(form.items)}: {'; '.join(expects(each) for each in form.items)}"
    return "a mapping of names to text"


def _few(names: list[str]) -> str:
    return ", ".join(names if len(names) <= SHOWN else [*names[:SHOWN], "..."])


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _number(form: Form) -> str:
    noun = "a whole number" if form.type is int else "a number"
    low = high = ""
    for note in form.notes:
        if isinstance(note, Gt):
            low = "of at least 1" if form.type is int and note.gt == 0 else f"above {note.gt:g}"
        elif isinstance(note, Ge):
            low = f"of at least {note.ge:g}"
        elif isinstance(note, Lt):
            high = f"below {note.lt:g}"
        elif isinstance(note, Le):
            high = f"at most {note.le:g}"
    return " ".join([noun, " and ".join(part for part in (low, high) if part)]).rstrip()


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key of the recipe: `data.sources[].path`."""

    key: str
    field: FieldInfo
    owner: type[Options]

    @property
    def type(self) -> Any:
        """What may stand there."""
        return field_type(self.field)


def tree(model: type[Options] = Recipe, prefix: str = "") -> Iterator[Leaf]:
    """Every key, sections included, depth first in the order of the schema; options of components under their names."""
    for name, field in model.model_fields.items():
        leaf = Leaf(f"{prefix}{name}", field, model)
        yield leaf
        for form in forms(leaf.type):
            if form.section:
                yield from tree(form.section, f"{leaf.key}.")
            elif form.component:
                for component in registry.names(form.component.kind):
                    options = registry.component(form.component.kind, component).Options
                    yield from tree(options, f"{leaf.key}.{component}.")
            elif form.items:
                for inner in forms(form.items[0]):
                    if inner.section:
                        yield from tree(inner.section, f"{leaf.key}[].")
                    elif inner.component:
                        for component in registry.names(inner.component.kind):
                            options = registry.component(inner.component.kind, component).Options
                            yield from tree(options, f"{leaf.key}[].{component}.")


def knobs() -> list[str]:
    """Every key a user can set, options of components included: `train.optimizer.adamw.betas`. Sections are not knobs."""
    return [leaf.key for leaf in tree() if not _only_section(leaf.type)]


def _only_section(annotation: Any) -> bool:
    """Whether nothing but a section, or a list of sections, can stand here (a choice of auto aside)."""
    return any(
        form.section or any(inner.section for item in form.items[:1] for inner in forms(item))
        for form in forms(annotation)
    )


def homes() -> dict[str, tuple[str, ...]]:
    """Where each key name occurs, as dotted keys."""
    found: dict[str, list[str]] = {}
    for leaf in tree():
        found.setdefault(leaf.key.rpartition(".")[2], []).append(leaf.key)
    return {name: tuple(places) for name, places in found.items()}
