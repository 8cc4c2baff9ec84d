"""Answers that another system gave, as outcomes: a file with one record for each row, by its id or by its prompt.

    {"id": "t006", "prediction": "refund"}                 {"prompt": "Where is my order?", "prediction": "shipping"}

Rows without an id of their own are called `file:line`. What `sartor predict` writes is such a file. A prediction is a text, a
number, or a list of labels or tags; of likelihoods nothing is known, so metrics of them are left out for such a system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.data import reading
from sartor.data.rows import Labelled, Row, Tagged, Text
from sartor.errors import DataError, Problem, raise_errors
from sartor.protocols import Outcome

SHOWN = 5
"""Faults of one kind that are told, and rows without an answer that are named."""


@dataclass(frozen=True, slots=True)
class Given:
    """Answers by what they answer."""

    file: str
    by_id: Mapping[str, Any]
    by_prompt: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, label: str) -> Given:
        """All records of a file. Raises DataError E120 with those that answer nothing, or the same twice and differently."""
        ids: dict[str, Any] = {}
        prompts: dict[str, Any] = {}
        beside: dict[str, Any] = {}
        problems: list[Problem] = []
        for item in reading.records(path):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            what = _taken(item.value, ids, prompts)
            if what is None:
                _beside(item.value, beside)
            else:
                problems.append(
                    Problem("E120", what, label, item.line, fix='{"id": ..., "prediction": ...} on each line')
                )
        raise_errors(DataError, problems[:SHOWN])
        return cls(label, ids, {prompt: answer for prompt, answer in beside.items() if answer is not None} | prompts)

    def of(self, row: Row) -> Any:
        """The answer to a row; None where there is none."""
        found = self.by_id.get(row.id or str(row.origin))
        return self.by_prompt.get(row.prompt_text()) if found is None else found

    def require(self, rows: Iterable[Row]) -> None:
        """Raises DataError E120 where rows have no answer, or not as many tags as words."""
        missing: list[str] = []
        for row in rows:
            answer, name = self.of(row), row.id or str(row.origin)
            if answer is None:
                missing.append(name)
            elif isinstance(row, Tagged) and len(_parts(answer, None)) != len(row.tokens):
                what = f"row {name} has {len(row.tokens)} words, and {len(_parts(answer, None))} tags here"
                raise DataError(Problem("E120", what, file=self.file, fix="one tag for each word"))
        if missing:
            named = ", ".join(missing[:SHOWN]) + (" ..." if len(missing) > SHOWN else "")
            what = f"{len(missing):,} test rows have no prediction here: {named}"
            raise DataError(Problem("E120", what, file=self.file, fix="one record for each, with its id or its prompt"))

    def outcomes(self, rows: Sequence[Row]) -> list[Outcome]:
        """One for each row, in their order."""
        return [_outcome(row, self.of(row)) for row in rows]


def _taken(record: Any, ids: dict[str, Any], prompts: dict[str, Any]) -> str | None:
    """Put a record where it belongs, or say what is wrong with it."""
    if not isinstance(record, Mapping):
        return "a record needs keys: id or prompt, and prediction"
    answer = record.get("labels", record.get("prediction"))
    if answer is None:
        return "a record without prediction"
    known = False
    for name, found in (("id", ids), ("prompt", prompts)):
        key = record.get(name)
        if key is None or (name == "prompt" and known):
            continue
        known = True
        if found.setdefault(str(key), answer) != answer:
            return f"the {name} {str(key)[:60]!r} has two different predictions"
    return None if known else "a record without id and without prompt"


def _beside(record: Mapping[str, Any], prompts: dict[str, Any]) -> None:
    """The prompt of a record with an id finds it too, where all records of that prompt answer alike; None where they differ."""
    if record.get("id") is None or record.get("prompt") is None:
        return
    prompt, answer = str(record["prompt"]), record.get("labels", record.get("prediction"))
    prompts[prompt] = answer if prompts.get(prompt, answer) == answer else None


def _outcome(row: Row, answer: Any) -> Outcome:
    told: dict[str, Any] = {
        "id": row.id or str(row.origin),
        "prompt": "" if isinstance(row, Text) else row.prompt_text(),
        "reference": row.text if isinstance(row, Text) else row.answer_text(),
        "columns": row.columns,
    }
    if isinstance(row, Tagged):
        told |= {"tags": _parts(answer, None), "right_tags": list(row.tags)}
    elif isinstance(row, Labelled):
        told |= {"labels": [part for part in _parts(answer, ",") if part], "right_labels": list(row.labels)}
    elif isinstance(answer, int | float) and not isinstance(answer, bool):
        told |= {"value": float(answer), "prediction": f"{answer:g}"}
    else:
        told["prediction"] = str(answer)
    return Outcome(**told)


def _parts(answer: Any, between: str | None) -> list[str]:
    """A list, or a text that lists."""
    each = answer if isinstance(answer, list | tuple) else str(answer).split(between)
    return [str(part).strip() for part in each]
