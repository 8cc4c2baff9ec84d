"""Answers to compare: each becomes a rendering of its own behind the same prompt, which carries no loss.

A rendering ends with the last token that is learnt, the end of the answer's turn, so that a head which reads the last token
reads that one. `Rendered.labels` holds how good the answer is (higher is better; 1 and 0 for a pair and for a verdict) and,
where it is known, by how much the better one of a pair is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sartor.data.rows import Example, Judged, Message, Preference, Ranking, Row
from sartor.tokens.batch import Rendered
from sartor.tokens.layout import Fault


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to the prompt of a row."""

    name: str
    """What the row calls it: chosen, rejected, completion, answers[2]."""
    example: Example
    """The prompt without loss, and this answer."""
    labels: tuple[float, ...]


def candidates(row: Row) -> list[Candidate] | None:
    """The answers of a row whose answers are compared or judged; None for a row of another kind."""
    match row:
        case Preference():
            margin = () if row.margin is None else (row.margin,)
            both = (("chosen", row.chosen, 1.0), ("rejected", row.rejected, 0.0))
            return [Candidate(name, _told(row, row.prompt, turns), (good, *margin)) for name, turns, good in both]
        case Judged():
            return [Candidate("completion", _told(row, row.prompt, row.completion), (float(row.liked),))]
        case Ranking():
            return [
                Candidate(f"answers[{place}]", _told(row, row.prompt, turns), (score,))
                for place, (turns, score) in enumerate(zip(row.answers, row.scores, strict=True))
            ]
    return None


def _told(row: Row, prompt: Sequence[Message], answer: Sequence[Message]) -> Example:
    given = [replace(turn, weight=0.0) if turn.loss_weight else turn for turn in prompt]
    return Example(origin=row.origin, messages=(*given, *answer))


def compared(found: Sequence[Sequence[Rendered]], answers: Sequence[Candidate]) -> list[Rendered]:
    """The rendering of each answer with its labels, ending where the answer does.

    Raises:
        Fault: T228, an answer of several turns that needs several renderings; T229, two answers that are better and worse
            have become the same tokens.
    """
    rendered: list[Rendered] = []
    seen: dict[bytes, Candidate] = {}
    for ones, answer in zip(found, answers, strict=True):
        if len(ones) != 1:
            raise apart(answer)
        one = _ended(ones[0])
        same = seen.setdefault(one.ids.tobytes(), answer)
        if same is not answer and same.labels[0] != answer.labels[0]:
            what = f"{same.name} and {answer.name} become the same tokens, so neither can be better"
            raise Fault(
                "T229", what, fix="give answers that differ in more than outer whitespace, or leave the row out"
            )
        rendered.append(replace(one, labels=np.array(answer.labels, np.float32)))
    return rendered


def apart(answer: Candidate) -> Fault:
    """T228: the answer needs several renderings, where one text is to be compared."""
    what = f"{answer.name} has several turns that this template shows apart, so it is no single text to compare"
    return Fault("T228", what, fix="data.loss_on: last_answer, or answers of one turn")


def with_prompt(row: Row, prompt: tuple[Message, ...]) -> Row:
    """A row of answers to compare with other turns for its prompt."""
    assert isinstance(row, Preference | Judged | Ranking)
    return replace(row, prompt=prompt)


def _ended(one: Rendered) -> Rendered:
    last = int(np.flatnonzero(one.weight)[-1]) + 1
    return replace(one, ids=one.ids[:last], weight=one.weight[:last])
