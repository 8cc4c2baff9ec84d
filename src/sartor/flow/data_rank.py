"""Begins or goes on with the ranking of answers by people; has models write the answers where the file has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sartor.data.annotate.items import MOST_ANSWERS, Answer, Item, Shown, keyed, to_rank, to_sample
from sartor.data.annotate.order import entropy
from sartor.data.annotate.session import Session
from sartor.data.annotate.workspace import JOB, Job, Workspace
from sartor.data.paths import expand
from sartor.errors import DataError, Problem
from sartor.events import Event, Noted, Progressed, Stage
from sartor.flow.data_label import Settings, places_of, read_guidelines, working
from sartor.flow.model import load
from sartor.store import atomic

BLOCK = 16
"""Prompts answered between two messages of progress."""


def begin(
    file: str | None,
    folder: Path,
    *,
    models: Sequence[str],
    samples: int,
    temperature: float,
    max_new_tokens: int,
    settings: Settings,
    guidelines: Path | None,
    emit: Callable[[Event], None],
) -> Workspace:
    """The folder with prompts and answers in it; answers are sampled when it is begun, and never again.

    Raises DataError with every bad row, A109 where there would be too few or too many answers, A103, A107, ModelError.
    """
    before = Workspace.open(folder).job if (folder / JOB).exists() else None
    if file is None and before is None:
        what = "there is nothing to rank yet"
        raise DataError(Problem("A107", what, file=str(folder), fix="name a file: sartor data rank FILE --out DIR"))
    items: list[Item] = []
    if file is not None and models and before is None:
        items = _sampled(file, models, samples, temperature, max_new_tokens, settings.seed or 0, emit)
    elif file is not None and not models:
        items = [item for path in expand(file, Path.cwd()) for item in to_rank(path, label=file)]
    held = before or Job(kind="rank")
    overlap = held.overlap if settings.overlap is None else settings.overlap
    seed = held.seed if settings.seed is None else settings.seed
    text = read_guidelines(guidelines)
    with atomic.coded(folder):
        return Workspace.begin(folder, replace(held, kind="rank", overlap=overlap, seed=seed), items, text)


@contextmanager
def ranking(workspace: Workspace, annotator: str, *, ordering: str, skipped: bool) -> Iterator[Session]:
    """A session on the workspace's rows; its log is held until the end of the block."""
    places = places_of(workspace, ordering, {}, entropy)
    with working(workspace, annotator, places, ordering, skipped) as session:
        yield session


def _sampled(
    file: str,
    models: Sequence[str],
    samples: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    emit: Callable[[Event], None],
) -> list[Item]:
    if not 2 <= samples * len(models) <= MOST_ANSWERS:
        what = f"{samples} samples of {len(models)} models make {samples * len(models)} answers a row"
        raise DataError(Problem("A109", what, fix=f"2 to {MOST_ANSWERS} answers can be ranked: change --samples"))
    found = [one for path in expand(file, Path.cwd()) for one in to_sample(path, label=file)]
    answers: list[list[Answer]] = [[] for _ in found]
    for model in models:
        emit(Stage("sample", f"{model}: {len(found):,} prompts, {samples} answers each"))
        opened = load(model)
        prompts = [opened.renderer.prompt(question.row.prompt(), question.row.tools).tolist() for question, _ in found]
        for start in range(0, len(prompts), BLOCK):
            block = prompts[start : start + BLOCK]
            repeated = [prompt for prompt in block for _ in range(samples)]
            made = opened.generator.generate(
                repeated, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed + start
            )
            for index, text, _ in sorted(made):
                answers[start + index // samples].append(Answer(text, model))
            emit(Progressed("prompts", start + len(block), len(prompts)))
    shown = [
        Shown(question.row.origin, question.row.id, turns, tuple(dict.fromkeys(given)), question.record)
        for (question, turns), given in zip(found, answers, strict=True)
    ]
    several = [one for one in shown if len(one.answers) > 1]
    if len(several) < len(shown):
        what = "prompts are left out: all their answers are the same"
        emit(Noted("warning", "A113", f"{len(shown) - len(several):,} {what}"))
    if not several:
        fix = "sample with a higher --temperature, or from two models"
        raise DataError(Problem("A109", "every model gives each prompt one answer only", file=file, fix=fix))
    return keyed(several)
