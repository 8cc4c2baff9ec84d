"""Several answers to one prompt and how good each is: by ranks, 1 the best, or by scores, the highest the best.

    {"prompt": "Name a fruit.", "answers": ["Leek.", "Pear.", "Plum."], "ranks": [3, 1, 1]}
    {"prompt": "Name a fruit.", "answers": ["Leek.", "Pear."], "scores": [0.5, 4]}

Equal numbers say that two answers are equally good. The prompt and each answer may be lists of messages, and an answer may be
`{"text": ...}`, as `sartor data rank --as rankings` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._answers import asked, need_answer, number
from sartor.data.formats._fields import BadRow, kind, nearest, value
from sartor.data.formats._turns import messages
from sartor.data.rows import Message, Origin, Ranking, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"prompt": "Name a fruit.", "answers": ["Leek.", "Pear.", "Plum."], "ranks": [3, 1, 1]},
    {
        "prompt": [{"role": "user", "content": "Name a fruit."}],
        "answers": [{"text": "Leek.", "model": "a"}, [{"role": "assistant", "content": "Pear."}]],
        "scores": [0.5, 4],
    },
]
FIELDS: tuple[str, ...] = ("prompt", "answers", "ranks", "scores")


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has answers and says how good they are."""
    return "prompt" in record and "answers" in record and ("ranks" in record or "scores" in record)


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Ranking. Raises BadRow."""
    given = value(record, "answers")
    if not isinstance(given, list):
        raise BadRow("D111", f'"answers" is {kind(given)} (a list needed)', 'write {"answers": [...], "ranks": [...]}')
    if len(given) < 2:
        raise BadRow(
            "D111", f'"answers" holds {len(given)} (two or more needed)', "add an answer that is better or worse"
        )
    prompt, scores = asked(record), _scores(record, len(given))
    answers = tuple(_answer(entry, f"answers[{place}]") for place, entry in enumerate(given))
    for place, turns in enumerate(answers):
        if turns in answers[:place]:
            what = f"answers[{answers.index(turns)}] and answers[{place}] are the same"
            raise BadRow("D170", what, "leave one of them out, with its rank")
    if len(set(scores)) == 1:
        raise BadRow("D170", "all answers are equally good", "there is nothing to learn from such a row; leave it out")
    return Ranking(origin=origin, prompt=prompt, answers=answers, scores=scores)


def _scores(record: Mapping[str, Any], count: int) -> tuple[float, ...]:
    """Scores as they are, or minus the ranks."""
    name = "scores" if record.get("scores") is not None else "ranks"
    if record.get(name) is None:
        others = [column for column in record if column not in FIELDS]
        near = nearest("ranks", others) or nearest("scores", others)
        hint = f'; is it the column "{near}"?' if near else ""
        raise BadRow("D111", f'neither "ranks" nor "scores" is there{hint}', "say how good each answer is, 1 the best")
    given = record[name]
    if not isinstance(given, list):
        raise BadRow(
            "D111", f'"{name}" is {kind(given)} (a list of numbers needed)', "write one number for each answer"
        )
    if len(given) != count:
        raise BadRow("D111", f'"{name}" has {len(given)} numbers for {count} answers', "write one for each answer")
    numbers = [number(entry, f"{name}[{place}]") for place, entry in enumerate(given)]
    return tuple(numbers if name == "scores" else [-entry for entry in numbers])


def _answer(entry: Any, where: str) -> tuple[Message, ...]:
    if isinstance(entry, Mapping) and "role" not in entry and isinstance(entry.get("text"), str):
        entry = entry["text"]
    if isinstance(entry, str):
        turns: tuple[Message, ...] = (Message("assistant", entry),)
    else:
        turns = messages([entry] if isinstance(entry, Mapping) else entry, where)
    need_answer(turns, where)
    return turns
