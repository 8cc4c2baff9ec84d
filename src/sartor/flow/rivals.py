"""What the tuned model is compared with beside its base and the base with examples: the base with texts found for each question,
further models, answers of other systems. Each is measured on the same rows, and one model is in memory at a time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sartor import registry
from sartor.data.findings import Findings
from sartor.data.reading import expand, read
from sartor.data.rows import Example, Prompt, Row, Text
from sartor.errors import DataError, ModelError, Problem, RecipeError, raise_errors
from sartor.evaluate.bm25 import Index
from sartor.evaluate.given import Given
from sartor.events import Noted
from sartor.flow.answers import by_features
from sartor.flow.model import find
from sartor.models.kinds import kind_of
from sartor.store.fingerprint import weights

if TYPE_CHECKING:
    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Emit, Prepared
    from sartor.models.base import ModelPolicy
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Outcome, Traits
    from sartor.recipe.load import Loaded
    from sartor.recipe.schema import Rival

BETWEEN = "\n\n---\n\n"
"""Stands between texts that were found."""
HEAD = "Context:\n\n"


@dataclass(frozen=True, slots=True)
class Found:
    """The base with texts before the question."""

    index: Index
    texts: Sequence[str]
    k: int

    def before(self, row: Example, fits: Fits) -> tuple[Example, bool]:
        """(the row with as many of its k texts as fit before its last question, whether all of them did)."""
        best = self.index.best(_question(row), self.k)
        for count in range(len(best), 0, -1):
            shown = with_texts(row, [self.texts[place] for place in best[:count]])
            if fits(shown):
                return shown, count == len(best)
        return row, not best


@dataclass(frozen=True, slots=True)
class Rivals:
    """All of them by name; the order of a comparison is that of `names`."""

    names: tuple[str, ...] = ()
    """Of every model but the tuned one, base and few_shot among them."""
    models: Mapping[str, ModelFolder] = field(default_factory=dict)
    given: Mapping[str, Given] = field(default_factory=dict)
    found: Mapping[str, Found] = field(default_factory=dict)

    @property
    def of_base(self) -> tuple[str, ...]:
        """Those for which the base answers."""
        return tuple(name for name in self.names if name not in self.models and name not in self.given)

    @property
    def others(self) -> tuple[str, ...]:
        """Those that need another model, or none."""
        return tuple(name for name in self.names if name not in self.of_base)


class Fits:
    """Whether a prompt leaves room for its answer in the model's window."""

    def __init__(self, prepared: Prepared, room: int) -> None:
        self._renderer, self._room, self._window = prepared.renderer, room, prepared.base.root.window

    def __call__(self, row: Example) -> bool:
        """Whether it does."""
        if self._window is None:
            return True
        return len(self._renderer.prompt(row.prompt(), row.tools)) + self._room <= self._window


def of_run(prepared: Prepared, train: Sequence[int], test: Sequence[int], *, few_shot: bool) -> Rivals:
    """Find and read all of them. Raises ModelError, DataError or RecipeError for what is not there or cannot be compared."""
    evaluate, root, dataset = prepared.loaded.recipe.evaluate, prepared.loaded.root, prepared.rows.dataset
    models: dict[str, ModelFolder] = {}
    given: dict[str, Given] = {}
    found: dict[str, Found] = {}
    for name, one in evaluate.rivals.items():
        if one.model is not None:
            models[name] = find(one.model, root)
            _require_comparable(prepared, name, models[name])
        elif one.predictions is not None:
            (path,) = expand(one.predictions, root)[:1]
            given[name] = Given.read(path, one.predictions)
            given[name].require(dataset[index] for index in test)
        else:
            found[name] = _found(prepared, name, one, train)
    names = tuple(name for name in evaluate.names if name != "few_shot" or few_shot)
    return Rivals(names, models, given, found)


def files(loaded: Loaded) -> dict[str, Path]:
    """Files that rivals are made of, as written -> file."""
    named: dict[str, Path] = {}
    for name, one in loaded.recipe.evaluate.rivals.items():
        if one.model is not None:
            folder = find(one.model, loaded.root)
            parts = sorted({folder.path, folder.root.path})
            named |= {f"{name} {path.name}": path for part in parts for path in weights(part)}
        source = one.predictions or (one.retrieval.documents if one.retrieval else None)
        if source is not None:
            named |= {f"{name} {path.name}": path for path in expand(source, loaded.root)}
    return named


def _require_comparable(prepared: Prepared, name: str, folder: ModelFolder) -> None:
    """Raises RecipeError R106 where a further model cannot be asked what the rows ask."""
    traits: Traits = registry.component("objective", prepared.settings.objective.name).TRAITS
    what = None
    if traits.symbols:
        what = f"{name} cannot be compared: {prepared.settings.objective.name} hides tokens of this base's vocabulary"
    elif kind_of(folder) == "encoder" and prepared.settings.head is None:
        what = f"{name} is an encoder, which has no words to answer with"
    if what is not None:
        raise RecipeError(prepared.loaded.problem("R106", "evaluate.against", what, fix="leave it out"))


def _found(prepared: Prepared, name: str, one: Rival, train: Sequence[int]) -> Found:
    assert one.retrieval is not None
    if prepared.settings.task in ("pretrain", "prefer", "tag") or by_features(prepared):
        what = f"{name} puts texts before a question, and these rows ask none that the base could answer in words"
        raise RecipeError(prepared.loaded.problem("R106", "evaluate.against", what, fix="leave it out"))
    if one.retrieval.documents is None:
        dataset = prepared.rows.dataset
        texts = [_text(dataset[index]) for index in train if prepared.rows.originals[index]]
    else:
        findings = Findings()
        texts = [
            _text(row)
            for path in expand(one.retrieval.documents, prepared.loaded.root)
            for row in read(path, findings=findings, label=one.retrieval.documents)
        ]
        raise_errors(DataError, findings.errors)
    if not texts:
        what = "there is no text to find anything in"
        raise DataError(Problem("D100", what, file=one.retrieval.documents, fix="give a file with texts"))
    return Found(Index(texts), texts, one.retrieval.k)


def _text(row: Row) -> str:
    return row.text if isinstance(row, Text) else f"{row.prompt_text()}\n{row.answer_text()}".strip()


def _question(row: Example) -> str:
    asked = [message.content for message in row.prompt() if message.role == "user"]
    return asked[-1] if asked else row.prompt_text()


def with_texts(row: Example, texts: Sequence[str]) -> Example:
    """The row with texts before its last question, in the same turn."""
    row = row.conversation()
    turns = list(row.messages)
    asked = len(row.prompt())
    place = max((at for at, turn in enumerate(turns[:asked]) if turn.role == "user"), default=None)
    if place is None or not texts:
        return row
    turns[place] = replace(turns[place], content=f"{HEAD}{BETWEEN.join(texts)}{BETWEEN}{turns[place].content}")
    return replace(row, messages=tuple(turns))


def outcomes(
    name: str, prepared: Prepared, policy: ModelPolicy | None, indices: Sequence[int], tools: Bench, emit: Emit
) -> Iterator[Outcome]:
    """The outcome of every row of `indices` in order, of any of them but base and few_shot. `policy` is the base, where it is asked."""
    rivals = tools.rivals
    if name in rivals.given:
        return iter(rivals.given[name].outcomes([prepared.rows.dataset[index] for index in indices]))
    if name in rivals.models:
        return _by_other(name, rivals.models[name], prepared, indices, tools, emit)
    assert policy is not None
    return _with_texts(name, prepared, policy, indices, tools, emit)


def _with_texts(
    name: str, prepared: Prepared, policy: ModelPolicy, indices: Sequence[int], tools: Bench, emit: Emit
) -> Iterator[Outcome]:
    from sartor.evaluate.predict import predict

    found, fits = tools.rivals.found[name], Fits(prepared, tools.max_new_tokens)
    rows: list[Row] = []
    cut = 0
    for index in indices:
        row = prepared.rows.dataset[index]
        asked = row.conversation() if isinstance(row, Prompt) else row
        assert isinstance(asked, Example)
        shown, whole = found.before(asked, fits)
        rows.append(shown)
        cut += not whole
    if cut:
        what = (
            f"{cut:,} of {len(rows):,} rows were shown fewer than {found.k} texts, because the model's window is full"
        )
        emit(Noted("warning", "E115", f"{name}: {what}"))
    yield from predict(
        policy, prepared.renderer, rows, range(len(rows)), task=name, labels=tools.labels,
        max_new_tokens=tools.max_new_tokens, batch=tools.batch, want=tools.want, emit=emit,
    )  # fmt: skip


def _by_other(
    name: str, folder: ModelFolder, prepared: Prepared, indices: Sequence[int], tools: Bench, emit: Emit
) -> Iterator[Outcome]:
    """Another model, opened here and gone afterwards. Raises ModelError M174 where it is of no use for these rows."""
    import torch

    from sartor.evaluate.heads import predict_heads
    from sartor.evaluate.predict import predict
    from sartor.flow.model import load

    settings, dataset = prepared.settings, prepared.rows.dataset
    torch.set_num_threads(settings.threads)
    model = load(folder.path, device=settings.device)
    if model.renderer.vocabulary.fingerprint != prepared.renderer.vocabulary.fingerprint:
        what = f"{name} has another vocabulary: perplexity counts other tokens there; compare bits_per_byte"
        emit(Noted("warning", "E114", what))
    try:
        if model.policy.head is not None:
            yield from predict_heads(model.judge, dataset, indices, task=name, emit=emit)
        elif model.policy.kind == "encoder":
            what = f"{name} has neither words nor a head to answer with"
            raise ModelError(Problem("M174", what, file=str(folder.path), fix="leave it out of evaluate.against"))
        else:
            yield from predict(
                model.policy, model.renderer, dataset, indices, task=name, labels=tools.labels,
                max_new_tokens=tools.max_new_tokens, batch=tools.batch, want=tools.want, emit=emit,
            )  # fmt: skip
    finally:
        del model
        gc.collect()
