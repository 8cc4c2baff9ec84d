"""What people are asked about the answers of two models without being told which is which: rows, questions and choices.

    pairwise   a prompt and two answers, in an order drawn for each rater and row: A better, B better, tie, both bad
    likert     a prompt and one answer: very poor to very good, 1 to 5

A unit is one question about one row (or one answer of it). Where both models gave the same answer there is nothing to
compare; on a scale such an answer is asked once and counts for both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from sartor.data.annotate.items import Answer, Item, Turn
from sartor.protocols import Outcome

Kind = Literal["pairwise", "likert"]
A, B, TIE, BAD = "A better", "B better", "tie", "both bad"
SCALE = ("very poor", "poor", "fair", "good", "very good")
CHOICES: Mapping[Kind, tuple[str, ...]] = {"pairwise": (A, B, TIE, BAD), "likert": SCALE}
KEYS: Mapping[Kind, Mapping[str, str]] = {
    "pairwise": {"a": A, "b": B, "t": TIE, "x": BAD},
    "likert": {str(step): label for step, label in enumerate(SCALE, 1)},
}
USUAL: Mapping[Kind, tuple[str, ...]] = {
    "pairwise": ("overall",),
    "likert": ("accuracy", "helpfulness", "tone"),
}
"""Questions where nobody names any."""
WORDS: Mapping[Kind, Mapping[str, str]] = {
    "pairwise": {
        "overall": "Which answer is better?",
        "accuracy": "Which answer is more accurate?",
        "helpfulness": "Which answer helps more?",
        "tone": "Which answer has the better tone?",
    },
    "likert": {
        "overall": "How good is this answer?",
        "accuracy": "How accurate is this answer?",
        "helpfulness": "How helpful is this answer?",
        "tone": "How fitting is the tone of this answer?",
    },
}
OTHERS: Mapping[Kind, str] = {"pairwise": "Which answer is better in {}?", "likert": "How good is this answer in {}?"}
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Of a question."""
OURS = 1
"""The number of the tuned model's answer in a pair; that of the other is 0. On screen they stand in any order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked; fixed with the first rating, but for rows that are added."""

    kind: Kind
    against: str
    """Name of the model that tuned is compared with."""
    questions: tuple[str, ...]
    rows: int
    """Test rows drawn; those where both answers are the same are among them."""
    seed: int
    reference: bool = False
    """Whether the right answer is shown."""

    def json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def of_json(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `json`. Raises TypeError or KeyError for anything else."""
        return cls(**{**body, "questions": tuple(body["questions"])})


@dataclass(frozen=True, slots=True)
class Unit:
    """One question to a rater. Nothing in `item` says which model wrote an answer."""

    item: Item
    row: str
    """Id of the outcome."""
    question: str
    models: tuple[str, ...]
    """pairwise: who wrote each answer of the item; likert: all who gave its one answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """All units of a plan, in the order of the draw."""

    plan: Plan
    units: tuple[Unit, ...]
    same: tuple[str, ...]
    """Ids of drawn rows where both models gave the same answer."""
    drawn: int

    @property
    def rows(self) -> int:
        """Rows that are asked about."""
        return len({unit.row for unit in self.units})

    def question(self, name: str) -> str:
        """In words."""
        return asked_as(self.plan.kind, name)


def asked_as(kind: Kind, question: str) -> str:
    """A question in words."""
    return WORDS[kind].get(question) or OTHERS[kind].format(question.replace("_", " "))


def units(plan: Plan, theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> Asked:
    """What is asked about the answers of two models to the same rows; rows that one of them did not answer are left out.

    Rows are drawn by a hash of seed and id, so that asking for more rows later adds to those that were asked before.
    """
    written = {outcome.id: outcome for outcome in theirs if outcome.prediction is not None}
    pairs = [(written[mine.id], mine) for mine in ours if mine.prediction is not None and mine.id in written]
    pairs.sort(key=lambda pair: _draw(plan.seed, pair[1].id))
    found: list[Unit] = []
    same: list[str] = []
    for number, (other, mine) in enumerate(pairs[: plan.rows], 1):
        alike = _text(other).strip() == _text(mine).strip()
        if alike:
            same.append(mine.id)
        shown: list[tuple[tuple[str, ...], tuple[str, ...]]]
        if plan.kind == "likert":
            both = (plan.against, "tuned")
            shown = [((_text(mine),), both)] if alike else [((_text(other),), both[:1]), ((_text(mine),), both[1:])]
        else:
            shown = [] if alike else [((_text(other), _text(mine)), (plan.against, "tuned"))]
        for answers, models in shown:
            found += [_unit(plan, number, mine, answers, models, question) for question in plan.questions]
    return Asked(plan, tuple(found), tuple(same), min(plan.rows, len(pairs)))


def order(asked: Asked, rater: str) -> list[int]:
    """Places of units in the order in which this rater is asked: rows shuffled, the questions about one together."""
    groups: dict[tuple[str, tuple[Answer, ...]], list[int]] = {}
    for place, unit in enumerate(asked.units):
        groups.setdefault((unit.row, unit.item.answers), []).append(place)
    said = {group: _draw(asked.plan.seed, rater, group[0], *(answer.text for answer in group[1])) for group in groups}
    return [place for group in sorted(groups, key=lambda group: said[group]) for place in groups[group]]


def sides(item: Item, rater: str, seed: int) -> tuple[int, ...]:
    """The answers of an item in the order in which this rater sees them, the same for every question about the row."""
    places = tuple(range(len(item.answers)))
    return places[::-1] if int(_draw(seed, rater, item.id, "sides")[:8], 16) % 2 else places


def _unit(
    plan: Plan, number: int, row: Outcome, answers: tuple[str, ...], models: tuple[str, ...], question: str
) -> Unit:
    turns = [Turn("", row.prompt)] + [Turn("the right answer", row.reference)] * (
        plan.reference and bool(row.reference)
    )
    key = _draw(plan.kind, row.id, row.prompt, *answers, question)
    item = Item(key, row.id, "", number, tuple(turns), tuple(Answer(text) for text in answers))
    return Unit(item, row.id, question, models)


def _text(outcome: Outcome) -> str:
    return outcome.prediction or ""


def _draw(*parts: object) -> str:
    """16 hex digits that look random and depend on the parts only."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]
