"""What rank 0 hands to the other ranks before training, as JSON: what it has read, decided and proven, and where it lies.

The others open the rows and tokens of the run folder; they read no file of the user's but the base, and decide nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter

from sartor import registry
from sartor.advise.settings import StageSettings
from sartor.data.dataset import Dataset
from sartor.errors import ModelError, Problem, RunError
from sartor.flow.course import path_in
from sartor.flow.heads import inputs_for
from sartor.flow.measure import Bench
from sartor.flow.prepare import PARTS, Prepared, renderer_for
from sartor.models.catalog import ModelFolder, resolve
from sartor.recipe.load import Loaded, parse
from sartor.recipe.schema import Of
from sartor.store.fingerprint import of_file, weights
from sartor.tokens.course import Course
from sartor.tokens.inputs import Inputs
from sartor.tokens.render import Renderer
from sartor.tokens.store import TokenRows, TokenSet

if TYPE_CHECKING:
    from sartor.protocols import Traits
    from sartor.store.run import Run


class HasDataset(Protocol):
    """Rows, whatever else is known of them."""

    @property
    def dataset(self) -> Dataset:
        """All rows."""
        ...


class Material(Protocol):
    """What a training stage needs of what was prepared: `Prepared` on rank 0, `Handed` on the others."""

    @property
    def loaded(self) -> Loaded:
        """The recipe."""
        ...

    @property
    def settings(self) -> StageSettings:
        """The recipe with nothing left open."""
        ...

    @property
    def base(self) -> ModelFolder:
        """The model to start from."""
        ...

    @property
    def renderer(self) -> Renderer:
        """Rows to tokens."""
        ...

    @property
    def inputs(self) -> Inputs | None:
        """How the model reads whole rows, where a head learns about them."""
        ...

    @property
    def rows(self) -> HasDataset:
        """The rows."""
        ...

    @property
    def tokens(self) -> Mapping[str, TokenRows]:
        """Tokens of each part."""
        ...

    @property
    def course(self) -> Course:
        """What training takes of them."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest row that is allowed."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedRows:
    """The rows of a run folder."""

    dataset: Dataset


@dataclass(frozen=True, slots=True)
class Handed:
    """The material of a rank that did not prepare it, and all else that `train` is called with."""

    loaded: Loaded
    settings: StageSettings
    base: ModelFolder
    renderer: Renderer
    inputs: Inputs | None
    rows: OpenedRows
    tokens: Mapping[str, TokenSet]
    course: Course
    max_tokens: int
    tools: Bench
    stage: Path
    owner: str


def hand_over(prepared: Prepared, tools: Bench, run: Run, stage: Path, *, number: int, data: Path) -> dict[str, Any]:
    """Everything another rank needs to take part in a stage, as a JSON object."""
    loaded = prepared.loaded
    return {
        "text": loaded.text,
        "path": str(loaded.path.absolute()) if loaded.path else None,
        "root": str(loaded.root.absolute()),
        "overrides": list(loaded.overrides),
        "number": number,
        "settings": settings_json(prepared.settings),
        "model": prepared.base.reference,
        "base": _identity(prepared.base),
        "thinks": prepared.renderer.thinks,
        "now": run.created,
        "max_tokens": prepared.max_tokens,
        "tools": {"labels": list(tools.labels), "max_new_tokens": tools.max_new_tokens, "batch": tools.batch},
        "data": str(data.absolute()),
        "stage": str(stage.absolute()),
        "owner": run.digest,
    }


def take_over(call: Mapping[str, Any], *, threads: int) -> Handed:
    """Open what rank 0 has prepared. Raises RunError P113 where the folder is not seen, ModelError P114 for another base."""
    root, data = Path(call["root"]), Path(call["data"])
    path = Path(call["path"]) if call["path"] else None
    loaded = parse(call["text"], str(path or "recipe"), call["overrides"])
    loaded = replace(loaded.stages[call["number"]], path=path, root=root)
    recipe = loaded.recipe
    try:
        dataset = Dataset.open(data)
        tokens = {part: TokenSet.open(data / "tokens" / part) for part in PARTS}
        course = Course.open(path_in(data))
    except FileNotFoundError as fault:
        fix = "several machines need the run folder on a file system that all of them share: --out /shared/RUN"
        raise RunError(
            Problem("P113", "what rank 0 has prepared is not seen from here", file=str(fault.filename), fix=fix)
        ) from fault
    begun = call["model"] != recipe.base.model
    base = resolve(call["model"], root, revision=None if begun else recipe.base.revision)
    if _identity(base) != call["base"]:
        raise ModelError(
            Problem(
                "P114",
                f"{call['model']} is another model here than on rank 0",
                file=str(base.path),
                fix="the same base on every machine",
            )
        )
    tools = call["tools"]
    settings = replace(settings_from_json(call["settings"]), threads=threads)
    renderer = renderer_for(
        base,
        template=root / recipe.base.template if recipe.base.template else None,
        now=datetime.fromtimestamp(call["now"]),
        add_tokens=recipe.base.add_tokens,
        loss_on=recipe.data.loss_on,
        reasoning=recipe.data.reasoning,
        thinks=call["thinks"],
    )
    traits: Traits = registry.component("objective", settings.objective.name).TRAITS
    return Handed(
        loaded=loaded,
        settings=settings,
        base=base,
        renderer=renderer,
        inputs=inputs_for(base, renderer.vocabulary) if traits.reads == "input" else None,
        rows=OpenedRows(dataset),
        tokens=tokens,
        course=course,
        max_tokens=call["max_tokens"],
        tools=Bench(
            metrics=(),
            want=frozenset(),
            indices=(),
            labels=tools["labels"],
            shots=(),
            max_new_tokens=tools["max_new_tokens"],
            batch=tools["batch"],
        ),
        stage=Path(call["stage"]),
        owner=call["owner"],
    )


def _identity(base: ModelFolder) -> dict[str, Any]:
    """What tells a base from another without reading its weights: the sizes of its files, and its configuration."""
    files = {path.name: path.stat().st_size for path in weights(base.path)}
    return files | {"config.json": of_file(base.path / "config.json")}


def settings_json(settings: StageSettings) -> dict[str, Any]:
    """What a stage has to know, as a JSON object."""
    names = {each.name for each in fields(StageSettings)}
    body: dict[str, Any] = TypeAdapter(StageSettings).dump_python(settings, mode="json", include=names)
    return body


def settings_from_json(body: Mapping[str, Any]) -> StageSettings:
    """The inverse of `settings_json`."""
    components = {kind: Of(kind).validate(body[kind]) for kind in ("method", "objective", "optimizer")}
    return TypeAdapter(StageSettings).validate_python({**body, **components})
