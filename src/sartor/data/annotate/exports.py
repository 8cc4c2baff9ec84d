"""What a finished annotation is written as: rows to train on, each with who said what.

{"text": "My card ...", "label": "card_arrival", "annotation": {"how": "agreed", "annotators": {...}, ...}}
{"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek.", "annotation": {...}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sartor.data.annotate.items import Item
from sartor.data.annotate.marks import Mark, Sheet
from sartor.data.annotate.resolve import Pair, Resolved, level_of, ranks
from sartor.data.annotate.workspace import ADJUDICATIONS


def prompt(item: Item) -> Any:
    """What was asked: text, or a list of messages where there was more than one turn."""
    if len(item.turns) == 1 and not item.turns[0].role:
        return item.turns[0].text
    return [{"role": turn.role or "user", "content": turn.text} for turn in item.turns]


def labelled(item: Item, found: Resolved, sheets: Mapping[str, Sheet], decision: Mark | None) -> dict[str, Any]:
    """A row of text and label; other columns of the user's record stay, a label it had before is kept beside."""
    columns = {name: value for name, value in item.record.items() if name not in ("label", "text", "annotation")}
    before = {"label_before": item.record["label"]} if "label" in item.record else {}
    marks = {name: sheet.answers[item.key] for name, sheet in sorted(sheets.items()) if item.key in sheet.answers}
    about: dict[str, Any] = {
        "how": found.how,
        "annotators": {name: _said(mark) for name, mark in marks.items()},
        "source": f"{item.file}:{item.line}",
        **before,
    }
    if found.how == "adjudicated" and decision is not None:
        about[ADJUDICATIONS] = {decision.annotator: _said(decision)}
    about |= _remarks(item, sheets)
    return {"id": item.id, **columns, "text": item.text, "label": found.label, "annotation": about}


def ranked(item: Item, sheets: Mapping[str, Sheet]) -> Iterator[dict[str, Any]]:
    """A row for each annotator's ranking of the item: the answers, and the rank of each, 1 the best, equals alike."""
    for name, sheet in sorted(sheets.items()):
        mark = sheet.answers.get(item.key)
        if mark is None or mark.ranking is None:
            continue
        yield {
            "id": item.id,
            "prompt": prompt(item),
            "answers": [
                answer.text if answer.model is None else {"text": answer.text, "model": answer.model}
                for answer in item.answers
            ],
            "ranks": ranks(mark.ranking),
            "annotation": {
                "annotator": name,
                "time": _time(mark),
                "source": f"{item.file}:{item.line}",
                **_remarks(item, {name: sheet}),
            },
        }


def preference(pair: Pair) -> dict[str, Any]:
    """A row of prompt, chosen and rejected."""
    item = pair.item
    models = {"chosen_model": item.answers[pair.better].model, "rejected_model": item.answers[pair.worse].model}
    return {
        "id": f"{item.id}#{pair.better}>{pair.worse}",
        "prompt": prompt(item),
        "chosen": item.answers[pair.better].text,
        "rejected": item.answers[pair.worse].text,
        "annotation": {
            "votes": pair.votes,
            "against": pair.against,
            "ties": pair.ties,
            "source": f"{item.file}:{item.line}",
            **{name: model for name, model in models.items() if model is not None},
        },
    }


def _said(mark: Mark) -> dict[str, Any]:
    told = {"label": mark.label, "time": _time(mark), "seconds": mark.seconds}
    if mark.suggestion is not None:
        told |= {"suggestion": mark.suggestion, "followed": mark.followed}
    return {name: value for name, value in told.items() if value is not None}


def _time(mark: Mark) -> str:
    return datetime.fromtimestamp(mark.time, UTC).isoformat(timespec="seconds")


def _remarks(item: Item, sheets: Mapping[str, Sheet]) -> dict[str, Any]:
    notes = {name: sheet.notes[item.key] for name, sheet in sorted(sheets.items()) if item.key in sheet.notes}
    flags: Sequence[str] = [name for name, sheet in sorted(sheets.items()) if item.key in sheet.flagged]
    return ({"notes": notes} if notes else {}) | ({"flagged_by": flags} if flags else {})


def order_of(mark: Mark) -> list[list[int]]:
    """The levels of a ranking, best first."""
    assert mark.ranking is not None
    levels = level_of(mark.ranking)
    return [
        [place for place in sorted(levels) if levels[place] == level] for level in range(max(levels.values()), -1, -1)
    ]
