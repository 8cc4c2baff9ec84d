"""Runs the ways of `data.augment` over training rows, and lets in only new rows that no held-out row comes close to."""

from __future__ import annotations

import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor import registry
from sartor.data.answers import Answers, NotAsked
from sartor.data.clusters import Clusters, cluster
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.groups import Rows
from sartor.data.making import Bench, Made, Means, Seeded
from sartor.data.rows import Row
from sartor.data.similarity import Pairs
from sartor.data.split import PARTS, Splits
from sartor.data.wording import answered, asked
from sartor.errors import Problem
from sartor.events import Event, Progressed
from sartor.recipe.schema import Component

Emit = Callable[[Event], None]
FOLDER = "augmented"
"""Under the folder of the data: the rows with those that were made."""
SHOWN = 5
"""Examples kept of each way."""
EQUAL, ASKED, NEAR = (
    "it equals another row",
    "it asks what another row asks",
    "it comes close to a held-out row",
)
"""Why a row that was made is left out, in the order in which they are looked at."""


@dataclass(slots=True)
class Making:
    """One step of a recipe's `data.augment`, and what came of it."""

    step: int
    """Counted from 0, in the order of the recipe."""
    way: str
    rows: int
    """Training rows it was given."""
    made: int = 0
    """Rows that went in."""
    parents: int = 0
    """Rows they were made from."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    refused: dict[str, int] = field(default_factory=dict)
    """Answers of a model that made no row, by reason."""
    pending: bool = False
    """It asks a model, which has not been asked yet."""
    examples: list[dict[str, str]] = field(default_factory=list)
    """The first as `{"row", "asked", "answered", "made_asked", "made_answered"}`."""


def augment(
    dataset: Dataset,
    splits: Splits,
    ways: Sequence[Component],
    *,
    replayed: NDArray[np.bool_],
    near_duplicates: float,
    findings: Findings,
    folder: Path,
    answers: Path,
    root: Path,
    means: Means,
    emit: Emit,
) -> tuple[Dataset, Splits, list[Making]]:
    """The data set with the rows that were made at its end, and its parts with those rows in training.

    Args:
        replayed: [n] rows against forgetting, that nothing is made of.
        near_duplicates: how alike a made row and a held-out row may be.
        folder: the new data set is written into a folder of this one.
        answers: folder in which the answers of models are kept.

    Raises:
        DataError: D197, D198 for a file that a way cannot read; and what models raise.
    """
    own = splits.indices("train")
    own = own[~replayed[own]]
    steps = [Making(number, way.name, len(own)) for number, way in enumerate(ways)]
    known = Answers(answers, root, means.models)
    step_of, parent_of = array("i"), array("q")

    def rows() -> Iterator[Row]:
        for making, way in zip(steps, ways, strict=True):
            label = _label(steps, making)
            copies: Counter[int] = Counter()
            for seeded, row in _made(dataset, own, making, way, known, root, means, emit):
                parent, number = seeded.row, seeded.number
                copies[number] += 1
                step_of.append(making.step)
                parent_of.append(number)
                identity = f"{parent.id}~{label}-{copies[number]}"
                yield replace(
                    row, id=identity, parent=parent.id, origin=parent.origin, group=parent.group, stratum=row.stratum
                )

    scratch = folder / f"{FOLDER}-all"
    made = Dataset.write(rows(), scratch)
    step, parent = np.frombuffer(step_of, np.int32), np.frombuffer(parent_of, np.int64)
    reason = _reasons(dataset, made, parent, splits, near_duplicates, scratch)
    for at in np.flatnonzero(reason >= 0):
        making, why = steps[step[at]], (EQUAL, ASKED, NEAR)[reason[at]]
        making.dropped[why] = making.dropped.get(why, 0) + 1
        findings.drop(made.origin(int(at)), f"augment.{making.way}", why)
    kept = np.flatnonzero(reason < 0)
    for making in steps:
        own_rows = kept[step[kept] == making.step]
        making.made, making.parents = len(own_rows), len(np.unique(parent[own_rows]))
        making.examples = [_example(dataset[int(parent[at])], made[int(at)]) for at in own_rows[:SHOWN]]
    whole = Dataset.write(chain(dataset, made.subset(kept)), folder / FOLDER)
    shutil.rmtree(scratch)
    return whole, _extended(splits, parent[kept]), steps


def tell(steps: Sequence[Making], file: str, findings: Findings) -> None:
    """D196 for each way: how many rows were made, and why others were left out."""
    for making in steps:
        if making.pending:
            what = f"augment.{making.way}: no row is made yet, because a model has to be asked; a run asks it"
            fix = (
                "the counts here are without those rows;   sartor data augment RECIPE --out DIR   makes and shows them"
            )
            findings.add(Problem("D196", what, file=file, fix=fix, level="info"))
            continue
        left_out = "".join(f"; {count:,} left out: {why}" for why, count in making.dropped.items())
        refused = "".join(f"; {count:,} answers not used: {why}" for why, count in making.refused.items())
        what = f"augment.{making.way}: {making.made:,} rows made from {making.parents:,} of {making.rows:,} training rows{left_out}{refused}"
        fix = "nothing needs doing; manifest.json names each with its parent" + (
            ", dropped.jsonl those left out" if left_out else ""
        )
        if making.made:
            findings.add(Problem("D196", what, file=file, fix=fix, level="info"))
        else:
            fix = "remove it, or see its options: as it is, it does nothing for these rows"
            findings.add(Problem("D196", what, file=file, fix=fix, level="warning"))


def _label(steps: Sequence[Making], making: Making) -> str:
    """The name of a way in the ids of its rows; with a number from its second use on."""
    before = sum(other.way == making.way for other in steps[: making.step])
    return f"{making.way}.{before + 1}" if before else making.way


def _made(
    dataset: Dataset,
    own: Rows,
    making: Making,
    way: Component,
    answers: Answers,
    root: Path,
    means: Means,
    emit: Emit,
) -> Iterator[Made]:
    def seeded() -> Iterator[Seeded]:
        for done, number in enumerate(own.tolist(), 1):
            stream = Random(f"{means.seed} {way.name} {making.step} {dataset.content_hash(number)}")
            yield Seeded(dataset[number], stream, number)
            if done % 500 == 0 or done == len(own):
                emit(Progressed(f"augmenting: {way.name}", done, len(own)))

    def told(done: int) -> None:
        emit(Progressed(f"asking a model: {way.name}", done))

    def refused(why: str) -> None:
        making.refused[why] = making.refused.get(why, 0) + 1

    bench = Bench(root, answers, tuple(sorted(dataset.labels)), means.seed, told, refused)
    try:
        yield from registry.component("augmentation", way.name).make(seeded(), way.options, bench)
    except NotAsked:
        making.pending = True


def _reasons(
    dataset: Dataset, made: Dataset, parent: Rows, splits: Splits, near_duplicates: float, folder: Path
) -> NDArray[np.int8]:
    """[m] for each made row the number of the reason to leave it out, -1 for none."""
    reason = np.full(len(made), -1, np.int8)
    if not len(made):
        return reason
    index = made.index
    reason[_repeats(index.text, dataset.index.text)] = 0
    # What a way has left as it was, an instruction before every text perhaps, asks nothing new.
    same = index.prompt == dataset.index.prompt[parent]
    repeated = _repeats(index.prompt, dataset.index.prompt) & (index.prompt != 0) & ~same
    reason[repeated & (reason < 0)] = 1
    left = np.flatnonzero(reason < 0)
    reason[left[_close(dataset, made.subset(left), splits, near_duplicates, folder / "near")]] = 2
    return reason


def _repeats(text: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """[m] whether a text is among the known ones or came before."""
    _, first = np.unique(text, return_index=True)
    again = np.ones(len(text), np.bool_)
    again[first] = False
    return again | np.isin(text, known)


def _close(dataset: Dataset, made: Dataset, splits: Splits, near_duplicates: float, folder: Path) -> NDArray[np.bool_]:
    """[m] whether a made row is linked, directly or through others, to a row of validation or test by its text."""
    held = np.flatnonzero(splits.part > 0)
    if not len(held) or not len(made):
        return np.zeros(len(made), np.bool_)
    together = Dataset.write(chain(dataset.subset(held), made), folder)
    alike = cluster(together, near_duplicates).alike
    return np.isin(alike[len(held) :], alike[: len(held)])


def _extended(splits: Splits, parent: Rows) -> Splits:
    """The parts with a training row for each parent, in its cluster."""
    clusters, none = splits.clusters, Pairs.join([])
    more = np.zeros(len(parent), splits.part.dtype)
    assert PARTS[0] == "train"
    return replace(
        splits,
        part=np.concatenate([splits.part, more]),
        given=np.concatenate([splits.given, more.astype(np.bool_)]),
        clusters=Clusters(
            of=np.concatenate([clusters.of, clusters.of[parent]]),
            alike=np.concatenate([clusters.alike, clusters.alike[parent]]),
            near=none,
            apart=none,
            large=clusters.large,
            shingles=None,
        ),
    )


def _example(parent: Row, made: Row) -> dict[str, Any]:
    return {
        "row": str(parent.id),
        "asked": asked(parent),
        "answered": answered(parent),
        "made_asked": asked(made),
        "made_answered": answered(made),
    }
