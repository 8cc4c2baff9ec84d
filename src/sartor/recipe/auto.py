"""Every value of a run with the sentence that explains it: set by the user, decided by a rule, or the default."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sartor import registry
from sartor.errors import Problem, RecipeError
from sartor.options import Choice, Options
from sartor.recipe import shape
from sartor.recipe.load import Loaded
from sartor.recipe.node import INVISIBLE, Step
from sartor.recipe.schema import Component, Recipe
from sartor.recipe.writing import inline

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Reasons:
    """The answer to `sartor check --why KEY`: one value, or all values of a section."""

    choices: Mapping[str, Choice]

    def json(self) -> dict[str, Any]:
        """`{key: {value, why}}`"""
        return {key: {"value": choice.value, "why": choice.why} for key, choice in self.choices.items()}

    def render(self, console: Console) -> None:
        """Print one line per value."""
        console.print(str(self), markup=False, highlight=False, soft_wrap=True)

    def __str__(self) -> str:
        return "\n".join(
            f"{key}: {inline(choice.value)}\n  {_one_line(choice.why)}" for key, choice in self.choices.items()
        )


class Resolution:
    """All keys of a recipe with their values and reasons; automatic ones are filled in by `decide`."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._choices = {key: self._first(key, value, about) for key, value, about in _leaves(loaded.recipe)}
        self._notes: dict[str, Choice] = {}

    def __getitem__(self, key: str) -> Any:
        """The value of a key. Raises KeyError."""
        return self._choices[key].value

    def decide(self, key: str, value: Any, why: str) -> None:
        """Set a key and say why; a component by its name, a section by a dict. Raises ValueError for a key that is none.

        Where the user had asked for another value, the reason says so.
        """
        path = shape.steps(key) or ()
        annotation = shape.at(path) if path else None
        if annotation is None:
            raise ValueError(f"the recipe has no key {key}")
        self._open_above(path, why)
        kind = _kind(path)
        before = self._choices.get(key)
        written = self._loaded.where(key)
        if written and before and before.value not in ("auto", value):
            why = f"{why} ({written} asks for {inline(before.value)})"
        if kind and value != "auto":
            self._replace(key, self._component(key, kind, value, why))
        elif isinstance(value, dict) and any(form.section for form in shape.forms(annotation)):
            self._replace(key, {f"{key}.{name}": Choice(_plain(each), why) for name, each in value.items()})
        else:
            self._replace(key, {key: Choice(_plain(value), why)})

    def note(self, key: str, value: Any, why: str) -> None:
        """Record a fact that is no key of the recipe, such as the number of steps."""
        self._notes[key] = Choice(_plain(value), why)

    def undecided(self) -> list[str]:
        """Keys that are still `auto`."""
        return [key for key, choice in self._choices.items() if choice.value == "auto"]

    def why(self, key: str) -> Reasons:
        """The reason of one value, or of every value of a section; the end of a key is enough where it is unambiguous.

        Raises RecipeError R102 with the nearest key where there is none.
        """
        known = {**self._choices, **self._notes}
        ending = [name for name in known if f".{name}".endswith(f".{key}")]
        for prefix in (key, *(ending if len(ending) == 1 else [])):
            found = _below(known, prefix)
            if found:
                return Reasons({name: known[name] for name in found})
        if ending:
            said = f'"{key}" is the end of several keys: {", ".join(ending)}'
            raise RecipeError(Problem("R102", said, fix=f"--why {ending[0]}"))
        last = {name.rpartition(".")[2]: name for name in reversed(known)}
        near = get_close_matches(key, [*known, *last], n=1, cutoff=0.5)
        fix = f"--why {last.get(near[0], near[0])}" if near else f"keys begin with {', '.join(Recipe.model_fields)}"
        hint = f'; did you mean "{last.get(near[0], near[0])}"?' if near else ""
        raise RecipeError(Problem("R102", f'the recipe has no key "{key}"{hint}', fix=fix))

    def recipe(self) -> Recipe:
        """The recipe with every decision in it."""
        return Recipe.model_validate(_grow(self._choices).plain())

    def json(self) -> dict[str, Any]:
        """`{key: {value, why}}`, notes last."""
        return Reasons({**self._choices, **self._notes}).json()

    def to_yaml(self, stages: Iterable[tuple[Resolution, Collection[str]]] = ()) -> str:
        """A recipe that says everything, each value with its reason as a comment.

        `stages`: those of a list, each with the keys it has brought along.
        """
        lines = ["# Every value of this run, and why. A complete recipe: `sartor run` accepts it."]
        root, below = _grow(self._choices), dict[Step, _Branch]()
        for number, (stage, own) in enumerate(stages):
            tree = _grow(stage._choices)
            below[number] = tree.below["train"]
            below[number].below |= {key: tree.below[key] for key in ("data", "method") if key in own}
        if below:
            root.below["train"] = _Branch(below=below)
        lines += root.lines("")
        lines += [f"# {key}: {inline(note.value)}  {_one_line(note.why)}" for key, note in self._notes.items()]
        return "\n".join(lines) + "\n"

    def _first(self, key: str, value: Any, about: str) -> Choice:
        written = self._loaded.where(key)
        if written is None:
            return Choice(value, f"default: {about}")
        return Choice(value, f"set by {written}" if written.startswith("override") else f"set in {written}")

    def _component(self, key: str, kind: str, value: Any, why: str) -> dict[str, Choice]:
        name = value.name if isinstance(value, Component) else str(value)
        options = value.options if isinstance(value, Component) else registry.component(kind, name).Options()
        new = {key: Choice(name, why)}
        for inner, each, about in _leaves(options, f"{key}.{name}."):
            if inner.rpartition(".")[2] in options.model_fields_set:
                new[inner] = Choice(each, why)
            else:
                new[inner] = self._choices.get(inner, Choice(each, f"default: {about}"))
        return new

    def _open_above(self, path: tuple[Step, ...], why: str) -> None:
        """`train.batch: auto` gives way to `train.batch.tokens`; `train.optimizer: auto` becomes the component named below."""
        for end in range(1, len(path)):
            above, below = shape.dotted(path[:end]), str(path[end])
            kind = _kind(path[:end])
            now = self._choices[above].value if above in self._choices else None
            if kind and now not in ("auto", below):
                raise ValueError(f"{above} is {now}, not {below}")
            if kind and now == "auto":
                self.decide(above, below, why)
            elif now == "auto":
                self._replace(above, {shape.dotted(path): Choice(None, why)})

    def _replace(self, key: str, new: Mapping[str, Choice]) -> None:
        """Put `new` where the key and all below it stood, in the order of the schema. Raises ValueError where nothing did."""
        replaced = set(_below(self._choices, key))
        if not replaced:
            raise ValueError(f"the recipe has no key {key}")
        kept: dict[str, Choice] = {}
        for name, choice in self._choices.items():
            kept |= new if name in replaced else {name: choice}
        self._choices = kept


def _below(keys: Iterable[str], key: str) -> list[str]:
    """The key itself and those of the section it names."""
    return [name for name in keys if name == key or name.startswith((f"{key}.", f"{key}["))]


def _kind(path: tuple[Step, ...]) -> str | None:
    """The kind of component that stands at a path."""
    return next((form.component.kind for form in shape.forms(shape.at(path)) if form.component), None)


def _leaves(options: Options, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """(key, value, description) of every value; a component gives its name and then its options."""
    for name, info in type(options).model_fields.items():
        key, value, about = f"{prefix}{name}", getattr(options, name), info.description or ""
        if isinstance(value, Component):
            yield key, value.name, about
            yield from _leaves(value.options, f"{key}.{value.name}.")
        elif isinstance(value, Options):
            yield from _leaves(value, f"{key}.")
        elif isinstance(value, tuple) and any(isinstance(entry, Options) for entry in value):
            for index, entry in enumerate(value):
                if isinstance(entry, Component):
                    yield f"{key}[{index}]", entry.name, about
                    yield from _leaves(entry.options, f"{key}[{index}].{entry.name}.")
                elif not isinstance(entry, Options):
                    yield f"{key}[{index}]", _plain(entry), about
                else:
                    yield from _leaves(entry, f"{key}[{index}].")
        else:
            yield key, _plain(value), about


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value


@dataclass(slots=True)
class _Branch:
    """A key of the resolved recipe: a value, or what is below it, or both for a component with options."""

    choice: Choice | None = None
    below: dict[Step, _Branch] = field(default_factory=dict)

    def plain(self) -> Any:
        if not self.below:
            return self.choice.value if self.choice else {}
        if all(isinstance(step, int) for step in self.below):
            return [branch.plain() for branch in self.below.values()]
        return {step: branch.plain() for step, branch in self.below.items()}

    def lines(self, indent: str) -> Iterator[str]:
        for step, branch in self.below.items():
            why = f"  # {_one_line(branch.choice.why)}" if branch.choice else ""
            if isinstance(step, int) and branch.below:
                first, *rest = branch.lines(indent + "  ")
                yield f"{indent}- {first.lstrip()}{why}"
                yield from rest
            elif isinstance(step, int):
                yield f"{indent}- {inline(branch.plain())}{why}"
            elif branch.below:
                yield f"{indent}{inline(step)}:{why}"
                yield from branch.lines(indent + "  ")
            else:
                yield f"{indent}{inline(step)}: {inline(branch.plain())}{why}"


def _grow(choices: Mapping[str, Choice]) -> _Branch:
    root = _Branch()
    for key, choice in choices.items():
        branch = root
        for step in shape.steps(key) or ():
            branch = branch.below.setdefault(step, _Branch())
        branch.choice = choice
    return root


def _one_line(text: str) -> str:
    return INVISIBLE.sub(" ", " ".join(text.split()))
