"""Lets a model write new rows after the example of those there are.

    augment: [{write: {model: my-model, endpoint: "http://127.0.0.1:8000/v1", count: 200}}]

Source: Wang et al. 2023, "Self-Instruct", section 2.2: a few rows are shown, further ones asked for, and a new row is taken
only if its ROUGE-L with every row known is below 0.7. Departures: answers are read strictly, as one JSON object a line with
the keys that were shown; a label must be one of the data; an answer is JSON where all those shown are; one of the rows shown
is named as the parent. A model's answers may be wrong: look at what is made.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Annotated, Any

from pydantic import Field

from sartor.data.literal import is_json
from sartor.data.making import Asking, Bench, Made, Seeded, Share
from sartor.data.rows import Example, Message, Row, Text
from sartor.data.similarity import WORD
from sartor.data.wording import normal
from sartor.errors import DataError, Problem

__all__ = ["Options", "make"]

POOL = 2000
"""Rows that are shown or compared with, at most; drawn by their content."""
LOOKED_AT = 300
"""Words of a text that are compared."""
NOT_JSON, OTHER_KEYS, UNKNOWN_LABEL, NOT_AS_SHOWN, ALIKE = (
    "the model's line is not a JSON object",
    "the object has other keys, or no text behind them",
    "its label is none of the data's",
    "its answer is no JSON of the form that was shown",
    "it resembles a row there is (ROUGE-L)",
)


class Options(Asking):
    """Who writes, how much, and after how many examples."""

    count: Annotated[int, Field(ge=1)] = 100
    """Rows wanted; fewer come where the model repeats itself."""
    shown: Annotated[int, Field(ge=1, le=50)] = 4
    """Rows shown in each question."""
    each: Annotated[int, Field(ge=1, le=50)] = 4
    """Rows asked for in each question."""
    about: str = ""
    """One sentence about the rows, put before them."""
    alike: Share = 0.7
    """ROUGE-L with a known row from which a new one is left out."""


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """New rows, each beside one of those shown for it. Raises DataError D199 where no row has a form that can be asked for."""
    pool = heapq.nsmallest(POOL, (seeded for seeded in rows if _form(seeded.row)), key=_order)
    if not pool:
        what = "augment.write needs rows of raw text, of a text and a label, or of one question and one answer"
        raise DataError(Problem("D199", what, fix="another way to augment, or other rows"))
    known = _Known(options.alike)
    for seeded in pool:
        known.add(_words(_form(seeded.row)))
    made = asked = 0
    most = 3 * -(-options.count // options.each)
    while made < options.count and asked < most:
        questions = [_shown(pool, bench.seed, number, options) for number in range(asked, min(asked + 8, most))]
        answers = bench.answers.ask(
            options.speaker(),
            [_question(seeds, options, bench.labels) for seeds in questions],
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=bench.seed,
        )
        asked += len(questions)
        bench.done(asked)
        for seeds, answer in zip(questions, answers, strict=True):
            for row in _read(answer, seeds, bench):
                if made < options.count and known.take(_words(_form(row)), bench):
                    made += 1
                    yield seeds[0], row


def _order(seeded: Seeded) -> tuple[float, str]:
    """By content: the stream of a row is made from it."""
    return seeded.random.random(), seeded.row.content_hash()


def _shown(pool: Sequence[Seeded], seed: int, number: int, options: Options) -> list[Seeded]:
    return Random(f"{seed} write {number}").sample(pool, min(options.shown, len(pool)))


def _form(row: Row) -> dict[str, str]:
    """What a model is shown of a row, and has to write; nothing for rows that cannot be shown so."""
    if isinstance(row, Text):
        return {"text": row.text}
    if not isinstance(row, Example) or not all(turn.bare for turn in row.messages):
        return {}
    own = [turn for turn in row.messages if turn.role != "system"]
    if [turn.role for turn in own] != ["user", "assistant"]:
        return {}
    if row.label is not None:
        return {"text": own[0].content, "label": row.label}
    return {"prompt": own[0].content, "answer": own[1].content}


def _question(seeds: Sequence[Seeded], options: Options, labels: Sequence[str]) -> str:
    shown = [json.dumps(_form(seeded.row), ensure_ascii=False) for seeded in seeds]
    keys = " and ".join(f'"{key}"' for key in _form(seeds[0].row))
    among = f" The label is one of {json.dumps(list(labels[:50]), ensure_ascii=False)}." if len(labels) else ""
    about = f"{options.about}\n" if options.about else ""
    return (
        f"{about}Here are examples, one JSON object a line:\n\n" + "\n".join(shown) + "\n\n"
        f"Write {options.each} new examples of the same kind and language about other things, each as one JSON object on a "
        f"line of its own with the keys {keys}.{among} Write nothing else."
    )


def _read(answer: str, seeds: Sequence[Seeded], bench: Bench) -> Iterator[Row]:
    """The rows of an answer that hold; every other line is counted by its reason."""
    for line in answer.splitlines():
        if not line.strip() or line.strip().startswith("```"):
            continue
        row = _row(line, seeds, bench.labels)
        if isinstance(row, Row):
            yield row
        else:
            bench.refused(row)


def _row(line: str, seeds: Sequence[Seeded], labels: Sequence[str]) -> Row | str:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        return NOT_JSON
    form = _form(seeds[0].row)
    if not isinstance(given, dict):
        return NOT_JSON
    if given.keys() != form.keys() or not all(isinstance(text, str) and text.strip() for text in given.values()):
        return OTHER_KEYS
    if "label" in given and given["label"] not in labels:
        return UNKNOWN_LABEL
    answers = [_form(seeded.row).get("answer", "") for seeded in seeds]
    if all(map(is_json, answers)) and not any(_same_form(given.get("answer", ""), answer) for answer in answers):
        return NOT_AS_SHOWN
    return _filled(seeds[0].row, given)


def _same_form(text: str, shown: str) -> bool:
    """Whether a text is JSON with the keys of the one that was shown."""
    if not is_json(text):
        return False
    mine, its = json.loads(text), json.loads(shown)
    return type(mine) is type(its) and (not isinstance(its, dict) or mine.keys() == its.keys())


def _filled(row: Row, given: dict[str, Any]) -> Row:
    """A row like this one with other texts; what else is known of the row is not known of the new one."""
    if isinstance(row, Text):
        return replace(row, text=given["text"], columns={})
    assert isinstance(row, Example)
    label = given.get("label")
    said = (
        {"user": given["text"], "assistant": label}
        if label
        else {"user": given["prompt"], "assistant": given["answer"]}
    )
    turns = tuple(Message(turn.role, str(said.get(turn.role, turn.content))) for turn in row.messages)
    return replace(
        row, messages=turns, label=label, stratum=label if row.stratum == row.label else row.stratum, columns={}
    )


def _words(form: dict[str, str]) -> list[str]:
    """What rows are compared by; a label is the same in many."""
    text = " ".join(text for key, text in form.items() if key != "label")
    return WORD.findall(normal(text))[:LOOKED_AT]


class _Known:
    """Rows that new ones must differ from."""

    def __init__(self, alike: float) -> None:
        self._alike = alike
        self._rows: list[tuple[list[str], Counter[str]]] = []

    def add(self, words: list[str]) -> None:
        self._rows.append((words, Counter(words)))

    def take(self, words: list[str], bench: Bench) -> bool:
        """Add a row unless one there is resembles it."""
        own = Counter(words)
        for other, counts in self._rows:
            size = len(words) + len(other)
            # A common subsequence is no longer than the words in common, so most rows need no closer look.
            if 2 * (own & counts).total() >= self._alike * size and rouge_l(words, other) >= self._alike:
                bench.refused(ALIKE)
                return False
        self.add(words)
        return True


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F1 of the longest common subsequence of two lists of words (Lin 2004, section 3, with beta 1); 1 for two empty ones."""
    if not one and not other:
        return 1.0
    above = [0] * (len(other) + 1)
    for word in one:
        left = [0]
        for place, match in enumerate(other):
            left.append(above[place] + 1 if word == match else max(above[place + 1], left[place]))
        above = left
    return 2 * above[-1] / (len(one) + len(other))
