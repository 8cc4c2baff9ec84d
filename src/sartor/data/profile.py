"""What the rows are like, as numbers: lengths, labels, languages, topics, copies, quality, doubtful labels.

Lengths and quality are counted over all rows while they pass, a few bytes each; what costs more is looked up in a fixed
sample, and the profile says of how many rows.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.dataset import Dataset
from sartor.data.features import words
from sartor.data.language import clear
from sartor.data.mislabels import rank
from sartor.data.quality import boilerplate, ends, faults
from sartor.data.rows import Example, Prompt, Row, Text
from sartor.data.sampling import sample
from sartor.data.similarity import WORD
from sartor.data.split import PARTS, Splits
from sartor.data.topics import topics
from sartor.data.wording import asked

SAMPLED = 5000
"""Rows that topics, languages and variety are looked up in."""
BARS = 24
LABELS = 100
"""Labels that are listed; the rest is counted together."""
CLUSTERS, MEMBERS = 30, 8
"""Groups of copies that are listed, and rows of each."""
SUSPECTS = 50
WIDTH = 300
"""Characters of a text that are kept."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a number is distributed over rows."""

    unit: str
    edges: tuple[float, ...]
    """[bars + 1]; a bar counts edge <= value < next edge, the last one includes its end."""
    counts: tuple[int, ...]
    smallest: float
    median: float
    p95: float
    largest: float
    mean: float

    @classmethod
    def of(cls, values: NDArray[Any], unit: str) -> Histogram | None:
        """Of [n] numbers that are not negative; even bars, or logarithmic ones where few are very large. None for n = 0."""
        if not len(values):
            return None
        low, high = float(values.min()), float(values.max())
        median, p95 = (float(figure) for figure in np.quantile(values, (0.5, 0.95)))
        if high > 8 * max(median, 1.0):
            edges = np.geomspace(max(low, 1.0), high, BARS + 1)
            edges[0] = low
        else:
            edges = np.linspace(low, high if high > low else low + 1, min(BARS, max(1, int(high - low))) + 1)
        if np.issubdtype(values.dtype, np.integer):
            edges = np.unique(np.ceil(edges))
            edges = edges if len(edges) > 1 else np.array([low, low + 1])
        counts, _ = np.histogram(values, edges)
        return cls(unit, tuple(edges.tolist()), tuple(counts.tolist()), low, median, p95, high, float(values.mean()))


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything below is plain data; see `json`."""

    rows: int
    parts: Mapping[str, int]
    kinds: Mapping[str, int]
    lengths: Mapping[str, Histogram]
    """prompt and answer or text, in words; tokens, where a recipe makes some."""
    labels: tuple[tuple[str, int], ...]
    other_labels: int
    """Rows with further labels."""
    languages: Mapping[str, Mapping[str, int]]
    """prompt, answer or text -> ISO 639 code -> rows of the sample; "" where a text is too short to tell."""
    topics: tuple[Mapping[str, Any], ...]
    """``{words, rows, examples: [{row, text}]}``, rows counted in the sample."""
    variety: Mapping[str, float]
    """distinct_1, distinct_2 and distinct_3 of the answers (Li et al. 2016): different n-grams over all n-grams."""
    copies: Mapping[str, Any]
    """``{rows, groups, largest: [{size, rows: [{row, where, text}]}]}``: rows equal or nearly equal to an earlier one."""
    quality: Mapping[str, int]
    """Fault -> rows that have it."""
    suspects: tuple[Mapping[str, Any], ...]
    """``{row, where, text, label, other, probability, other_probability, suspected}``, the most doubtful first."""
    label_accuracy: float | None
    """Share of the judged rows whose label a model of the other rows guesses; None where none could be judged."""
    sampled: int
    """Rows of the sample."""
    difficulty: Mapping[str, Any] | None = None
    """How much a prompt helps a base model to the answer, where it was measured."""

    def json(self) -> dict[str, Any]:
        """All fields as a JSON object."""
        return asdict(self)

    def with_lengths(self, name: str, values: NDArray[Any], unit: str) -> Profile:
        """With the distribution of one more length."""
        made = Histogram.of(values, unit)
        return self if made is None else replace(self, lengths={**self.lengths, name: made})


def profile(dataset: Dataset, splits: Splits, *, originals: NDArray[np.bool_] | None = None) -> Profile:
    """Look at all rows once, and at a sample more closely.

    `originals` [n] says which rows were read; copies are counted among these, because made rows resemble what they were made from.
    """
    asks, answers, texts = array("i"), array("i"), array("i")
    quality: Counter[str] = Counter(dict.fromkeys(("repetition", "signs", "encoding", "boilerplate", "no end"), 0))
    for row in dataset:
        said = answer_of(row)
        if isinstance(row, Text):
            texts.append(_length(said))
        else:
            asks.append(_length(asked(row)))
            if isinstance(row, Prompt):
                continue
            answers.append(_length(said))
            quality["boilerplate"] += boilerplate(said)
            quality["no end"] += ends(said) is False
        quality.update(faults(said))
    lengths = {
        name: made
        for name, values in (("prompt", asks), ("answer", answers), ("text", texts))
        if (made := Histogram.of(np.frombuffer(values, np.int32), "words")) is not None
    }
    labels = Counter(dict(enumerate(np.bincount(dataset.index.label[dataset.index.label >= 0]).tolist())))
    listed = [(dataset.labels[code], count) for code, count in labels.most_common(LABELS) if count]
    chosen = sample(dataset, SAMPLED)
    read = [dataset[row] for row in chosen]
    judged = rank(dataset, splits)
    return Profile(
        rows=len(dataset),
        parts={name: len(splits.indices(name)) for name in PARTS} | {"left out": len(splits.left_out)},
        kinds={kind: int((dataset.index.kind == code).sum()) for code, kind in enumerate(dataset.kinds)},
        lengths=lengths,
        labels=tuple(listed),
        other_labels=sum(labels.values()) - sum(count for _, count in listed),
        languages=_languages(read),
        topics=_topics(chosen, read),
        variety=_variety(answer_of(row) for row in read),
        copies=_copies(
            dataset, splits.clusters.alike, np.ones(len(dataset), np.bool_) if originals is None else originals
        ),
        quality={name: count for name, count in quality.items() if count},
        suspects=() if judged is None else tuple(_suspects(dataset, judged)),
        label_accuracy=None if judged is None else round(judged.accuracy, 4),
        sampled=len(chosen),
    )


def answer_of(row: Row) -> str:
    """What is learnt: the answer, or the whole text."""
    return row.text if isinstance(row, Text) else row.answer_text()


def short(text: str, width: int = WIDTH) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _length(text: str) -> int:
    return sum(1 for _ in WORD.finditer(text))


def _languages(rows: list[Row]) -> dict[str, dict[str, int]]:
    said: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row, Text):
            said.setdefault("text", []).append(row.text)
        else:
            said.setdefault("prompt", []).append(asked(row))
            if not isinstance(row, Prompt) and not (isinstance(row, Example) and row.label is not None):
                said.setdefault("answer", []).append(row.answer_text())
    counts = {whose: Counter(code or "" for code in clear(texts)) for whose, texts in said.items()}
    return {whose: dict(found.most_common()) for whose, found in counts.items()}


def _topics(chosen: list[int], rows: list[Row]) -> tuple[dict[str, Any], ...]:
    texts = [asked(row) for row in rows]
    return tuple(
        {
            "words": list(topic.words),
            "rows": len(topic.members),
            "examples": [{"row": chosen[at], "text": short(texts[at])} for at in topic.members[:3].tolist()],
        }
        for topic in topics(texts)
    )


def _variety(texts: Iterable[str]) -> dict[str, float]:
    seen: dict[int, set[int]] = {1: set(), 2: set(), 3: set()}
    whole = dict.fromkeys(seen, 0)
    for text in texts:
        said = words(text)
        for n in seen:
            runs = [hash(tuple(run)) for run in zip(*(said[at:] for at in range(n)), strict=False)]
            seen[n].update(runs)
            whole[n] += len(runs)
    return {f"distinct_{n}": round(len(seen[n]) / whole[n], 4) for n in seen if whole[n]}


def _copies(dataset: Dataset, alike: NDArray[Any], read: NDArray[np.bool_]) -> dict[str, Any]:
    sizes = np.bincount(alike[read]) if read.any() else np.zeros(0, np.int64)
    several = np.flatnonzero(sizes > 1)
    largest = several[np.argsort(-sizes[several], kind="stable")[:CLUSTERS]]
    groups = []
    for number in largest:
        members = np.flatnonzero((alike == number) & read)
        rows = [{**_where(dataset, int(row)), "text": short(whole_of(dataset[int(row)]))} for row in members[:MEMBERS]]
        groups.append({"size": len(members), "rows": rows})
    return {"rows": int((sizes[several] - 1).sum()), "groups": len(several), "largest": groups}


def _suspects(dataset: Dataset, judged: Any) -> Iterable[dict[str, Any]]:
    for at in range(min(SUSPECTS, len(judged.rows))):
        row = int(judged.rows[at])
        if judged.score[at] <= 0:
            return
        yield {
            **_where(dataset, row),
            "text": short(asked(dataset[row])),
            "label": dataset.labels[dataset.index.label[row]],
            "other": dataset.labels[judged.other[at]],
            "probability": round(float(judged.given_probability[at]), 4),
            "other_probability": round(float(judged.other_probability[at]), 4),
            "suspected": bool(judged.suspected[at]),
        }


def whole_of(row: Row) -> str:
    """What is asked and answered, on one line."""
    return row.text if isinstance(row, Text) else f"{asked(row)} → {row.answer_text()}"


def _where(dataset: Dataset, row: int) -> dict[str, Any]:
    return {"row": row, "where": str(dataset.origin(row))}
