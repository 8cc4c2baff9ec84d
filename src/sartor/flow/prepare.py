"""From a recipe to everything training needs, without torch: rows, splits, proven tokens, resolved settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor import registry
from sartor.advise.hardware import survey
from sartor.advise.parallel import ONE, Processes
from sartor.advise.settings import Settings, choose_objective, decide, longest_row, own_rate
from sartor.data.findings import Findings
from sartor.data.kept import digest_of, keep, kept
from sartor.data.making import Means
from sartor.data.pipeline import KEPT
from sartor.data.pipeline import Prepared as Rows
from sartor.data.pipeline import prepare as prepare_rows
from sartor.data.rows import row_from_json
from sartor.data.versions import Version, version_of
from sartor.errors import DataError, ModelError, Problem, RecipeError, raise_errors
from sartor.events import Event
from sartor.flow import on_policy, rounds
from sartor.flow.anchor import require as require_anchor
from sartor.flow.course import path_in, plan, told
from sartor.flow.export_check import require_exports
from sartor.flow.heads import head_of, inputs_for, require_model, targets_of
from sartor.flow.model import find
from sartor.models.catalog import ModelFolder, resolve
from sartor.models.kinds import kind_of
from sartor.recipe.auto import Resolution
from sartor.store.fingerprint import of_file
from sartor.tokens.contract import supervise
from sartor.tokens.course import Course
from sartor.tokens.inputs import Inputs, supervise_inputs
from sartor.tokens.render import Renderer, has_reasoning
from sartor.tokens.sight import Sight
from sartor.tokens.store import TokenSet
from sartor.tokens.template import PAIRED, PLAIN, ChatTemplate
from sartor.tokens.units import Units
from sartor.tokens.vocabulary import Vocabulary, check_size

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset
    from sartor.protocols import Models, Traits
    from sartor.recipe.load import Loaded
    from sartor.recipe.schema import Component, Data

Emit = Callable[[Event], None]
PARTS = ("train", "validation", "test")
TOKENS = "tokens"
OF_ROWS = ("pretrain", "classify", "regress", "tag", "prefer")
"""Tasks for which rows are made,"""
NO_ANSWERS = ("pretrain", "tag", "prefer")
"""and those whose rows have no answer that could be said."""
REASONING = (b"</think>", b'"reasoning": "')
"""What a row that holds reasoning holds on disk."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe, read and resolved, with its rows as tokens."""

    loaded: Loaded
    resolution: Resolution
    base: ModelFolder
    vocabulary: Vocabulary
    renderer: Renderer
    rows: Rows
    tokens: Mapping[str, TokenSet]
    """train and validation; test rows become tokens only when they are measured."""
    settings: Settings
    max_tokens: int
    course: Course
    inputs: Inputs | None = None
    """How the model reads whole rows, where a head learns about them."""

    @property
    def version(self) -> Version:
        """The state of the data that is trained on."""
        rows = self.rows
        return version_of(rows.dataset, rows.splits, self.loaded.recipe.data, self.renderer.fingerprint)


def renderer_for(
    folder: ModelFolder,
    *,
    template: Path | None = None,
    now: datetime | None = None,
    add_tokens: Sequence[str] = (),
    **options: Any,
) -> Renderer:
    """The renderer of a model: its own vocabulary and template, or the plain one, or the given file's.

    What a model was trained with (sartor.json beside it) is used again unless `options` say otherwise. `now` is what a
    template that prints the date is told. `add_tokens` are to be tokens beside the vocabulary's own.
    """
    home = folder.path if (folder.path / "tokenizer.json").exists() else folder.root.path
    vocabulary = Vocabulary.load(home, add_tokens)
    if folder.root.vocabulary is not None:
        end = 0 if vocabulary.growth is None else vocabulary.growth.end
        raise_errors(ModelError, check_size(vocabulary, max(folder.root.vocabulary, end), str(home)))
    if template is not None:
        source, label = _read_template(template), str(template)
    elif vocabulary.template is not None:
        source, label = vocabulary.template, str(home / "chat_template.jinja")
    else:
        source, label = _plain(folder), "the plain template"
    sees = kind_of(folder) == "vision"
    chat = ChatTemplate(source, vocabulary.named, label=label, lists=sees, now=now)
    return Renderer(vocabulary, chat, sight=_sight(folder) if sees else None, **(_trained_with(folder) | options))


def _plain(folder: ModelFolder) -> str:
    """The template of a model that has none. Raises ModelError T243 for one that is to show images."""
    kind = kind_of(folder)
    if kind == "vision":
        what = "this model has no chat template, so where its images stand is not known"
        raise ModelError(Problem("T243", what, file=str(folder.root.path), fix="base.template: a file with one"))
    return PAIRED if kind == "encoder_decoder" else PLAIN


def _sight(folder: ModelFolder) -> Sight:
    """How a model sees images."""
    from sartor.models.processor import processor_of

    return processor_of(folder.root.path)


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ModelError(
            Problem("T218", f"the chat template cannot be read ({fault})", file=str(path), fix="base.template")
        ) from fault


def _trained_with(folder: ModelFolder) -> dict[str, Any]:
    file = folder.path / "sartor.json"
    if not file.exists():
        return {}
    facts = json.loads(file.read_text(encoding="utf-8"))
    return {key: facts[key] for key in ("thinks", "reasoning") if key in facts}


def prepare(
    loaded: Loaded,
    folder: Path,
    emit: Emit,
    *,
    now: datetime | None = None,
    processes: Processes = ONE,
    models: Models | None = None,
    held_out: Path | None = None,
) -> Prepared:
    """Read, split, render and prove all rows, and fill in every `auto`. Working files go into `folder`.

    `models` opens those that ways to augment ask; None asks nobody. `held_out` is a file of questions that the rows must not
    give away, beside those of `data.against`. Raises InputError with every problem found.
    """
    recipe = loaded.recipe
    resolution = Resolution(loaded)
    base = resolve(recipe.base.model, loaded.root, revision=recipe.base.revision)
    if base.base is not None:
        raise ModelError(
            loaded.problem(
                "M107",
                "base.model",
                f"{recipe.base.model} is an adapter; training starts from a whole model",
                fix=f"base: {base.base.reference}",
            )
        )
    _require_libraries(loaded)
    means = Means(recipe.seed, models)
    data = recipe.data
    if held_out is not None:
        data = data.model_copy(update={"against": (*data.against, str(held_out.resolve()))})
    rows = prepare_rows(data, root=loaded.root, folder=folder, emit=emit, means=means)
    task = rows.task
    if recipe.goal.task == "auto":
        resolution.decide("goal.task", task, f"read off {rows.dataset[0].kind} rows")
    elif recipe.goal.task != task and (recipe.goal.task in OF_ROWS or task in NO_ANSWERS):
        raise DataError(
            Problem(
                "D180",
                f"goal.task is {recipe.goal.task}, but the rows are for {task}",
                file=str(rows.dataset.origin(0).file),
                fix=f"goal.task: {task}, or another file",
            )
        )
    else:
        task = recipe.goal.task
    renderer = renderer_for(
        base,
        template=loaded.root / recipe.base.template if recipe.base.template else None,
        now=now,
        add_tokens=recipe.base.add_tokens,
        loss_on=recipe.data.loss_on,
        reasoning=recipe.data.reasoning,
        thinks=recipe.data.reasoning != "none" and reasons(rows.dataset),
    )
    kind = rows.dataset[0].kind
    objective = choose_objective(recipe, resolution, task, model=kind_of(base), rows=kind)
    traits: Traits = registry.component("objective", objective.name).TRAITS
    _require_rows(loaded, objective.name, kind)
    require_model(loaded, base, renderer.vocabulary, objective.name, kind)
    teacher = _teacher(loaded, objective, renderer.vocabulary) if "teacher" in traits.roles else None
    require_anchor(loaded, renderer, base)
    if traits.reads == "prompt":
        rounds.require(loaded, objective, kind)
    on_policy.require(loaded, objective, kind)
    max_tokens = longest_row(recipe, base, resolution)
    targets = targets_of(traits, rows.dataset, rows.splits)
    inputs = None if targets is None else inputs_for(base, renderer.vocabulary, targets)
    rows, tokens = _tokens(rows, inputs or renderer, folder, recipe.data, max_tokens, emit)
    raise_errors(DataError, rows.findings.errors)
    if not len(tokens["train"]):
        raise DataError(Problem("D115", "no training row is left", fix="see dropped.jsonl for the reason of each"))
    units = Units(tokens["train"], together=traits.together)
    course = plan(loaded, rows, units)
    course.write(path_in(folder))
    lengths = units.lengths if course.mixture is None else course.mixture.lengths[course.mixture.rows(0)]
    scored = tokens["train"].supervised / max(1, tokens["train"].tokens)
    writing = on_policy.writing(objective, lengths, max_tokens)
    if traits.reads == "prompt":
        writing = rounds.writing(objective, lengths, max_tokens)
        lengths, scored = rounds.lengths(objective, lengths, max_tokens), 1.0
    settings = decide(
        recipe,
        resolution,
        task=task,
        base=base,
        objective=objective,
        lengths=lengths,
        validation_rows=len(Units(tokens["validation"], together=traits.together)),
        hardware=survey(),
        scored=scored,
        processes=processes,
        head=head_of(traits, targets),
        teacher=teacher,
        written=on_policy.written(objective),
        most_tokens=max_tokens,
        writing=writing,
    )
    on_policy.require_whole(objective, settings.parallel)
    rounds.require_whole(objective, settings.parallel)
    require_exports(loaded, base, settings)
    _require_rows_move(loaded, settings)
    for warning in (*settings.warnings, *told(course, loaded, settings.steps / settings.steps_per_epoch)):
        rows.findings.add(warning)
    _judge_rate(loaded, settings, rows)
    return Prepared(
        loaded, resolution, base, renderer.vocabulary, renderer, rows, tokens, settings, max_tokens, course, inputs
    )


def reasons(dataset: Dataset) -> bool:
    """Whether an answer comes with reasoning; only rows that can hold one are read."""
    return any(
        has_reasoning(row_from_json(json.loads(block.line(place))))
        for block in dataset.blocks()
        for place in block.having(*REASONING).tolist()
    )


def _tokens(
    rows: Rows, renderer: Renderer | Inputs, folder: Path, data: Data, max_tokens: int, emit: Emit
) -> tuple[Rows, dict[str, TokenSet]]:
    """The parts as proven tokens, and the rows with what was found; those made before, where nothing has changed.

    Raises TokenError.
    """
    seal = folder / TOKENS / KEPT
    sealed = folder / KEPT
    key = (
        digest_of([of_file(sealed), renderer.fingerprint, TokenSet.VERSION, max_tokens, data.too_long])
        if sealed.exists()
        else None
    )
    about = kept(seal, key) if key else None
    if about is not None:
        before = {part: TokenSet.open(folder / TOKENS / part) for part in PARTS}
        return replace(rows, findings=Findings.restore(about["findings"])), before
    seal.unlink(missing_ok=True)
    parts: dict[str, TokenSet] = {}
    for part in PARTS:
        how: dict[str, Any] = {
            "max_tokens": max_tokens,
            "too_long": data.too_long,
            "folder": folder / TOKENS / part,
            "label": part,
            "findings": rows.findings,
            "emit": emit,
        }
        indices = rows.splits.indices(part)
        if isinstance(renderer, Inputs):
            parts[part] = supervise_inputs(rows.dataset, indices, renderer, **how)
        else:
            parts[part] = supervise(rows.dataset, indices, renderer, **how)
    if key is not None:
        names = [f"{part}/{name}" for part in PARTS for name in TokenSet.FILES]
        keep(seal, key, names, {"findings": rows.findings.state()})
    return rows, parts


def _require_libraries(loaded: Loaded) -> None:
    """Raises RecipeError R148 where a chosen component needs a library that is not installed."""
    recipe = loaded.recipe
    for kind, key, chosen in (
        ("method", "method", recipe.method),
        ("optimizer", "train.optimizer", recipe.train.optimizer),
    ):
        if chosen == "auto":
            continue
        module = registry.component(kind, chosen.name)
        needed = module.needs(chosen.options) if hasattr(module, "needs") else getattr(module, "NEEDS", None)
        library, extra = needed or ("", "")
        if library and find_spec(library) is None:
            what = f"{kind} {chosen.name} needs the library {library}, which is not installed"
            raise RecipeError(loaded.problem("R148", key, what, fix=f'pip install "sartor[{extra}]"'))


def _require_rows(loaded: Loaded, objective: str, kind: str) -> None:
    """Raises RecipeError R106 where an objective cannot learn from rows of this kind."""
    if kind in registry.component("objective", objective).TRAITS.rows:
        return
    fitting = [
        name for name in registry.names("objective") if kind in registry.component("objective", name).TRAITS.rows
    ]
    raise RecipeError(
        loaded.problem(
            "R106",
            "train.objective",
            f"{objective} does not learn from {kind} rows",
            fix=f"train.objective: {' or '.join(fitting)}, or leave it out",
        )
    )


def _require_rows_move(loaded: Loaded, settings: Settings) -> None:
    """Raises RecipeError R106 for new tokens whose rows this method cannot train."""
    method = registry.component("method", settings.method.name)
    if not loaded.recipe.base.add_tokens:
        return
    what = None
    if not getattr(method, "NEW_TOKENS", False):
        what = f"method {settings.method.name} trains no rows of new tokens"
    elif settings.parallel == "fsdp2" and settings.method.name != "full":
        what = "rows of new tokens that move by themselves are held whole, and fsdp2 gives each process a part"
    if what is not None:
        modules = {name: registry.component("method", name) for name in registry.names("method")}
        able = [name for name, module in modules.items() if getattr(module, "NEW_TOKENS", False)]
        fix = f"method: {' or '.join(able)}; with several processes train.parallel: ddp"
        raise RecipeError(loaded.problem("R106", "base.add_tokens", what, fix=fix))


def _teacher(loaded: Loaded, objective: Component, vocabulary: Vocabulary) -> ModelFolder:
    """The model to learn from. Raises ModelError where there is none, M185 where it counts in other tokens."""
    reference = objective.options.teacher  # type: ignore[attr-defined]
    folder = find(reference, loaded.root)
    home = folder.path if (folder.path / "tokenizer.json").exists() else folder.root.path
    difference = vocabulary.difference(Vocabulary.load(home))
    if difference is None:
        return folder
    what = f"the teacher {reference} has another vocabulary than the base: {difference}"
    fix = (
        "a teacher of the same family; or let it write the answers, and learn them with sft: docs/techniques/distill.md"
    )
    raise ModelError(loaded.problem("M185", f"train.objective.{objective.name}.teacher", what, fix=fix))


def _judge_rate(loaded: Loaded, settings: Settings, rows: Rows) -> None:
    """A warning R150 where the learning rate is outside of what the method is known to bear."""
    method, optimizer = settings.method.name, settings.optimizer
    least, most = registry.component("method", method).LEARNING_RATE
    share = getattr(registry.component("objective", settings.objective.name), "RATE", 1.0)
    low, high = (own_rate(optimizer, bound, "")[0] for bound in (share * least, most))
    key = f"train.optimizer.{optimizer.name}.learning_rate"
    if low == high or low <= settings.learning_rate <= high or key not in loaded.given:
        return
    told = f"learning_rate {settings.learning_rate:g} is outside of the usual for {method} ({low:g} to {high:g})"
    rows.findings.add(loaded.problem("R150", key, told, level="warning", fix="learning_rate: auto"))
