"""Label Studio's JSON: tasks with the annotations of each person.

    [{"data": {"text": "..."}, "annotations": [{"completed_by": {"email": "ann"}, "result": [
        {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["refund"]}}]}]}]

Labels are `choices`; two answers are `pairwise` (left, right); more are a `ranker` with a bucket for each rank, best first,
so that ties are kept. The configurations that read these are in docs/how-to/label-data.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sartor.data.annotate.exports import order_of
from sartor.data.annotate.items import Answer, Item, Shown, Turn, keyed
from sartor.data.annotate.marks import Mark, Ranking, Sheet
from sartor.data.rows import Origin
from sartor.errors import DataError, Problem

BUCKET = "rank-"
SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Given:
    """An answer found in a file of somebody else."""

    annotator: str
    key: str
    label: str | None = None
    ranking: Ranking | None = None
    time: float = 0.0
    seconds: float | None = None


def write(items: Sequence[Item], sheets: Mapping[str, Sheet]) -> list[dict[str, Any]]:
    """A task for each item that somebody answered."""
    tasks = []
    for number, item in enumerate(items, 1):
        marks = [sheet.answers[item.key] for _, sheet in sorted(sheets.items()) if item.key in sheet.answers]
        if marks:
            annotations = [_annotation(item, mark) for mark in marks]
            tasks.append({"id": number, "data": _data(item), "annotations": annotations})
    return tasks


def read(tasks: Any, *, label: str) -> tuple[list[Item], list[Given]]:
    """(items, answers) of a file's tasks. Raises DataError A111 with every task that cannot be read.

    Annotations that were cancelled are left out; a task without any is an item to be annotated.
    """
    if not isinstance(tasks, list) or not tasks:
        raise DataError(Problem("A111", "this is no list of Label Studio tasks", file=label, fix="export as JSON"))
    shown, problems = [], []
    for number, task in enumerate(tasks, 1):
        try:
            shown.append(_shown(task, Origin(label, number)))
        except (KeyError, TypeError, ValueError) as fault:
            what = f"task {number} cannot be read: {_why(fault)}"
            fix = 'its data needs "text", or "prompt" with "items" (id, body) or "answer1" and "answer2"'
            problems.append(Problem("A111", what, file=label, line=number, fix=fix))
    if problems:
        raise DataError(*problems)
    items = keyed(shown)
    answers: list[Given] = []
    for number, (task, item) in enumerate(zip(tasks, items, strict=True), 1):
        try:
            answers += _answers(task, item)
        except (KeyError, TypeError, ValueError) as fault:
            what = f"the annotations of task {number} cannot be read: {_why(fault)}"
            fix = "one choice per task, a pairwise or a ranker result is understood"
            problems.append(Problem("A111", what, file=label, line=number, fix=fix))
    if problems:
        raise DataError(*problems)
    return items, answers


def _data(item: Item) -> dict[str, Any]:
    about: dict[str, Any] = {"id": item.id, "source": f"{item.file}:{item.line}"}
    if len(item.turns) > 1 or item.turns[0].role:
        about["turns"] = [[turn.role, turn.text] for turn in item.turns]
    if not item.answers:
        return {"text": item.text, **about}
    models = [answer.model for answer in item.answers]
    data: dict[str, Any] = {"prompt": item.text, **about}
    if len(item.answers) == len(SIDES):
        data |= {"answer1": item.answers[0].text, "answer2": item.answers[1].text}
    else:
        data["items"] = [{"id": str(place), "body": answer.text} for place, answer in enumerate(item.answers)]
    return data | ({"models": models} if any(models) else {})


def _annotation(item: Item, mark: Mark) -> dict[str, Any]:
    made = datetime.fromtimestamp(mark.time, UTC).isoformat()
    result = {"id": f"{item.key}-{mark.number}", **_result(item, mark)}
    about: dict[str, Any] = {"completed_by": {"email": mark.annotator}, "created_at": made, "was_cancelled": False}
    return {**about, **({} if mark.seconds is None else {"lead_time": mark.seconds}), "result": [result]}


def _result(item: Item, mark: Mark) -> dict[str, Any]:
    if mark.ranking is None:
        value: dict[str, Any] = {"choices": [mark.label]}
        return {"from_name": "label", "to_name": "text", "type": "choices", "value": value}
    order = order_of(mark)
    if len(item.answers) == len(SIDES):
        names = {"from_name": "preference", "to_name": "answer1,answer2"}
        if len(order) == 1:
            return {**names, "type": "choices", "value": {"choices": ["tie"]}}
        return {**names, "type": "pairwise", "value": {"selected": SIDES[order[0][0]]}}
    buckets = {f"{BUCKET}{rank}": [str(place) for place in level] for rank, level in enumerate(order, 1)}
    return {"from_name": "rank", "to_name": "answers", "type": "ranker", "value": {"ranker": buckets}}


def _shown(task: Any, origin: Origin) -> Shown:
    data = task["data"]
    models = data.get("models")
    if "answer1" in data:
        texts = [_text(data, "answer1"), _text(data, "answer2")]
    elif "items" in data:
        texts = [_text(entry, "body") for entry in data["items"]]
    else:
        return Shown(origin, _identity(data), _turns(data, "text"), (), {})
    writers = models if isinstance(models, list) and len(models) == len(texts) else [None] * len(texts)
    answers = tuple(Answer(text, writer) for text, writer in zip(texts, writers, strict=True))
    return Shown(origin, _identity(data), _turns(data, "prompt"), answers, {})


def _answers(task: Mapping[str, Any], item: Item) -> Iterator[Given]:
    for annotation in task.get("annotations") or ():
        if annotation.get("was_cancelled") or not annotation.get("result"):
            continue
        if len(annotation["result"]) != 1:
            raise ValueError("more than one result in an annotation")
        result = annotation["result"][0]
        label, ranking = _meaning(result, task["data"], item)
        seconds = annotation.get("lead_time")
        yield Given(
            _person(annotation.get("completed_by")),
            item.key,
            label,
            ranking,
            _time(annotation.get("created_at")),
            float(seconds) if isinstance(seconds, int | float) else None,
        )


def _meaning(result: Mapping[str, Any], data: Mapping[str, Any], item: Item) -> tuple[str | None, Ranking | None]:
    value, form = result["value"], result["type"]
    if form == "pairwise":
        best = SIDES.index(value["selected"])
        return None, ((1 - best,), (best,))
    if form == "ranker":
        return None, _ranking(value["ranker"], data, item)
    if form != "choices":
        raise ValueError(f'results of type "{form}" are no labels or rankings')
    (choice,) = value["choices"]
    if item.answers:
        if choice != "tie":
            raise ValueError(f'"{choice}" is no verdict on two answers')
        return None, ((0, 1),)
    if not isinstance(choice, str):
        raise TypeError("a choice that is no text")
    return choice, None


def _ranking(value: Any, data: Mapping[str, Any], item: Item) -> Ranking:
    """Of a list of ids, best first; of a mapping with one such list; or of buckets `rank-1`, `rank-2` ..."""
    place = {str(entry["id"]): number for number, entry in enumerate(data["items"])}
    if isinstance(value, Mapping):
        buckets = {name: ids for name, ids in value.items() if ids}
        if all(name.startswith(BUCKET) for name in buckets):
            levels = [buckets[name] for name in sorted(buckets, key=lambda name: int(name.removeprefix(BUCKET)))]
        elif len(buckets) == 1:
            levels = [[one] for ids in buckets.values() for one in ids]
        else:
            raise ValueError(f"buckets {', '.join(sorted(buckets))} have no order; name them {BUCKET}1, {BUCKET}2 ...")
    else:
        levels = [[one] for one in value]
    ranking = tuple(tuple(sorted(place[str(one)] for one in level)) for level in reversed(levels))
    if sorted(number for level in ranking for number in level) != list(range(len(item.answers))):
        raise ValueError("not every item is ranked once")
    return ranking


def _turns(data: Mapping[str, Any], name: str) -> tuple[Turn, ...]:
    """Those that we wrote beside the text, or the text."""
    if "turns" in data:
        return tuple(Turn(str(role), str(text)) for role, text in data["turns"])
    return (Turn("", _text(data, name)),)


def _text(data: Mapping[str, Any], name: str) -> str:
    text = data[name]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'"{name}" is no text')
    return text


def _identity(data: Mapping[str, Any]) -> str | None:
    found = data.get("id")
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def _person(found: Any) -> str:
    """A name that can be that of a file: an address or a number."""
    if isinstance(found, Mapping):
        found = found.get("email") or found.get("id")
    name = "".join(letter if letter.isalnum() or letter in "._@+-" else "_" for letter in str(found or "unknown"))
    return name[:64].lstrip(".@+-") or "unknown"


def _time(found: Any) -> float:
    try:
        return datetime.fromisoformat(str(found)).timestamp()
    except ValueError:
        return 0.0


def _why(fault: Exception) -> str:
    return f"{fault} is missing" if isinstance(fault, KeyError) else str(fault)
