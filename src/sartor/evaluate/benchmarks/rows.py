"""Rows of another file that base and tuned model are measured on, as a second test set: another domain, an old release, a public test.

    benchmarks: [{rows: {data: old_tickets.jsonl, metrics: [exact_match, json_valid]}}]

Its metrics are called NAME_metric in gates and tables. Nothing checks that no model has learnt these rows; name the file under
`data.against` for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.data.findings import Findings
from sartor.data.reading import expand, read
from sartor.data.rows import Example, Row, Text
from sartor.errors import DataError, Problem, raise_errors
from sartor.evaluate import metrics as measures
from sartor.evaluate.suites import Ground, Suite
from sartor.options import Auto
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

if TYPE_CHECKING:
    import numpy as np

    from sartor.evaluate.suites import Subject

METRICS = ("rows_*",)


class Options(Settings):
    """Which rows, and how they are measured."""

    data: Annotated[str, Field(min_length=1, examples=["old_tickets.jsonl"])]
    """A file or glob from the recipe's folder, or builtin:NAME."""
    metrics: tuple[str, ...] | Auto = "auto"
    """Names of metrics, or file.py:function; auto follows the rows."""
    most: Annotated[int, Field(gt=0)] = 500
    """Rows used, a fixed sample of the file."""
    max_new_tokens: Annotated[int, Field(gt=0)] | Auto = "auto"
    """Longest generated answer; auto is that of the run."""


@dataclass(frozen=True, slots=True)
class Named:
    """Implements `Metric`: another metric under a name of its own."""

    metric: Metric
    prefix: str = "rows_"

    @property
    def name(self) -> str:
        """With the prefix."""
        return self.prefix + self.metric.name

    @property
    def higher_is_better(self) -> bool:
        """Direction."""
        return self.metric.higher_is_better

    @property
    def needs(self) -> str:
        """What must be in the outcome."""
        return self.metric.needs

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, k]"""
        return self.metric.stats(outcomes)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., k] -> [...]"""
        return self.metric.combine(sums)


@dataclass(frozen=True, slots=True)
class Rows:
    """Implements `Suite`."""

    data: str
    rows: Sequence[Row]
    metrics: Sequence[Metric]
    labels: Sequence[str]
    want: frozenset[str]
    max_new_tokens: int
    speaks: bool = True

    @property
    def title(self) -> str:
        """Of its section."""
        return f"On {self.data}"

    @property
    def why(self) -> str:
        """What is measured."""
        return f"Rows of {self.data}, which nothing was trained for"

    def __len__(self) -> int:
        """Rows."""
        return len(self.rows)

    def measure(self, model: Subject, units: Sequence[int]) -> Iterator[Outcome]:
        """One outcome for each row."""
        rows = [self.rows[unit] for unit in units]
        return model.answer(rows, want=self.want, labels=self.labels, max_new_tokens=self.max_new_tokens)


def files(options: Options) -> list[str]:
    """What is read."""
    return [] if options.data.startswith("builtin:") else [options.data]


def suite(options: Options, ground: Ground) -> Suite:
    """Read the rows. Raises DataError with every fault of the file, RecipeError for unknown metrics."""
    import numpy as np

    findings = Findings()
    found = [
        row for path in expand(options.data, ground.root) for row in read(path, findings=findings, label=str(path))
    ]
    raise_errors(DataError, findings.errors)
    strange = next((row for row in found if not isinstance(row, Example | Text)), None)
    if strange is not None or not found:
        what = f"rows of kind {strange.kind} have no single answer to compare with" if strange else "there are no rows"
        raise DataError(Problem("D181", what, file=options.data, fix="give rows with one answer each"))
    places = np.sort(np.random.default_rng([ground.seed, 6]).permutation(len(found))[: options.most])
    rows = [found[place] for place in places.tolist()]
    labels = sorted({row.label for row in found if isinstance(row, Example) and row.label is not None})
    task = "pretrain" if isinstance(rows[0], Text) else "classify" if labels else "chat"
    names = (
        measures.defaults(task, [row.answer_text() for row in rows]) if options.metrics == "auto" else options.metrics
    )
    chosen = measures.load(names, ground.root)
    return Rows(
        options.data,
        rows,
        [Named(metric) for metric in chosen],
        labels if task == "classify" else (),
        measures.wants(chosen, task),
        ground.max_new_tokens if options.max_new_tokens == "auto" else options.max_new_tokens,
    )
