"""One look at every row for all checks that judge rows one by one: a row is decoded once, and so are its texts worked out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from sartor import registry
from sartor.data.crew import Crew
from sartor.data.dataset import Dataset
from sartor.data.features import words_of
from sartor.data.overlap import codes_of
from sartor.data.rows import Row, Text
from sartor.data.similarity import silent
from sartor.data.split import Splits
from sartor.data.wording import answered, normal
from sartor.errors import Problem

SPLITS = "splits.columns"


class Look:
    """A row, and what several checks ask of it."""

    def __init__(self, row: Row) -> None:
        self.row = row
        said = answered(row)
        self.answer: str = row.text if isinstance(row, Text) else row.answer_text()
        """What should come out: the answer, or the whole of a raw text."""
        self.answered = normal(said)
        """The answer with its tool calls, in normal form."""
        self._answered_words = words_of(self.answered)
        self.answer_words = self._answered_words if self.answer == said else words_of(normal(self.answer))
        """The words of `answer`."""
        self._codes: list[int] | None = None

    @property
    def codes(self) -> list[int]:
        """32 bits for each word of all that is asked and answered."""
        if self._codes is None:
            self._codes = codes_of(words_of(normal(self.row.prompt_text())) + self._answered_words)
        return self._codes


class Seeing(Protocol):
    """What is shown every row."""

    def see(self, at: int, look: Look) -> None:
        """Row number `at` of the data set."""


class Watcher(Seeing, Protocol):
    """Sees every row once, in order, and then tells what it found."""

    def problems(self) -> Iterator[Problem]:
        """What was found in all of them."""


def show(dataset: Dataset, *watchers: Seeing) -> None:
    """Show every row to all watchers, in order."""
    if watchers:
        for at, row in enumerate(dataset):
            look = Look(row)
            for watcher in watchers:
                watcher.see(at, look)


def findings(
    names: Sequence[str], dataset: Dataset, splits: Splits, done: Callable[[int], None] = silent
) -> Iterator[Problem]:
    """What the checks of these names find, in their order. `done` is told how many have finished."""
    for count, problems in enumerate(_by_name(names, dataset, splits), 1):
        yield from problems
        done(count)


def begin(
    crew: Crew, names: Sequence[str], dataset: Dataset, splits: Splits, done: Callable[[int], None] = silent
) -> Callable[[], Iterator[Problem]]:
    """Have several processes find the same, the checks that read every row in as many groups.

    Call the result for what they found, and for the part of it that is left to this process. The data set must be one that lies
    in its folder as a whole.
    """
    reading = [name for name in names if hasattr(registry.component("check", name), "watch")]
    groups = [group for first in range(crew.count) if (group := reading[first + 1 :: crew.count + 1])]
    theirs = {name for group in groups for name in group}
    ours = [name for name in names if name not in theirs]
    scratch = tempfile.TemporaryDirectory(dir=dataset.folder)
    splits.write(Path(scratch.name) / SPLITS)
    coming = [
        crew.ask(
            check,
            f"checking ({', '.join(group)})",
            {"names": group, "dataset": str(dataset.folder), "splits": scratch.name},
        )
        for group in groups
    ]

    def found() -> Iterator[Problem]:
        with scratch:
            told = dict(zip(ours, map(list, _by_name(ours, dataset, splits)), strict=True))
            done(len(told))
            for future in coming:
                for name, problems in future.result().items():
                    told[name] = [Problem(**{**each, "rows": tuple(each["rows"])}) for each in problems]
                done(len(told))
        for name in names:
            yield from told[name]

    return found


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the checks of a group find: what a worker does."""
    names, dataset = given["names"], Dataset.open(Path(given["dataset"]))
    found = _by_name(names, dataset, Splits.open(Path(given["splits"]) / SPLITS))
    return {name: [asdict(problem) for problem in problems] for name, problems in zip(names, found, strict=True)}


def _by_name(names: Sequence[str], dataset: Dataset, splits: Splits) -> Iterator[Iterator[Problem]]:
    modules = {name: registry.component("check", name) for name in names}
    watchers: dict[str, Watcher] = {
        name: module.watch(dataset, splits) for name, module in modules.items() if hasattr(module, "watch")
    }
    show(dataset, *watchers.values())
    for name, module in modules.items():
        yield watchers[name].problems() if name in watchers else module.check(dataset, splits)
