"""What an answer is worth: metrics, functions of the user's, reward models and judges, and their weighted sum.

A reward gives one number for each answer, and not-a-number where it could not tell; such answers are not learnt from, and are
counted. Nothing that could not be judged counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sartor.data.rows import Judged, Message, Origin
from sartor.errors import InputError, Problem
from sartor.generate.replies import graded
from sartor.protocols import Metric, Outcome
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    from sartor.protocols import Policy, Writer
    from sartor.rollouts.prompts import Answer
    from sartor.tokens.render import Renderer

Function = Callable[[Sequence[str], Sequence[Mapping[str, Any]]], Sequence[float]]
"""(answers, what is known of the row of each) -> a number for each."""


class Reward(Protocol):
    """Judges answers."""

    @property
    def name(self) -> str:
        """How it is called in events and samples."""
        ...

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n] float64, higher is better; not-a-number where it could not tell."""
        ...


@dataclass(frozen=True, slots=True)
class ByMetric:
    """A metric of answers, one answer at a time; of one that is better when lower, the negative.

    Raises InputError N420 for a metric that does not judge answers, and for one that needs the right answer of a row that
    has none.
    """

    metric: Metric

    def __post_init__(self) -> None:
        if self.metric.needs not in ("prediction", "label"):
            what = f"{self.metric.name} judges probabilities, not answers, so nobody can be rewarded by it"
            raise InputError(Problem("N420", what, fix="a metric of answers, such as exact_match"))

    @property
    def name(self) -> str:
        """The metric's."""
        return self.metric.name

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n]; not-a-number where the metric has no value for one answer alone."""
        outcomes = [_outcome(answer) for answer in answers]
        try:
            values = self.metric.combine(self.metric.stats(outcomes))
        except _NoReference as missing:
            what = f"{self.name} compares with the right answer, and {missing} has none"
            fix = "rows with answers, or a reward that needs none: a function, a reward model, a judge"
            raise InputError(Problem("N420", what, fix=fix)) from missing
        return values if self.metric.higher_is_better else -values


class _NoReference(Exception):
    """A metric asked for the right answer of a row that has none."""


@dataclass(frozen=True, slots=True)
class _Unanswered(Outcome):
    """The outcome of a row without a right answer; says so when it is asked for it."""

    def __getattribute__(self, name: str) -> Any:
        if name == "reference":
            raise _NoReference(object.__getattribute__(self, "id"))
        return object.__getattribute__(self, name)


def _outcome(answer: Answer) -> Outcome:
    asked = answer.asked
    kind = Outcome if asked.reference is not None else _Unanswered
    return kind(
        id=f"row {asked.row}",
        prompt=asked.text,
        reference=asked.reference or "",
        prediction=answer.text,
        stopped=answer.stopped,
        columns=asked.columns,
    )


@dataclass(frozen=True, slots=True)
class ByFunction:
    """A function of the user's on all answers at once. It raises InputError itself where the user's code fails."""

    name: str
    function: Function

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n] what it returns."""
        given = self.function([answer.text for answer in answers], [answer.asked.told() for answer in answers])
        return np.array(given, dtype=np.float64)


class ByModel:
    """A reward model: its head's number at the last token of question and answer, in its own tokens.

    Args:
        name: how it is called.
        policy: a model with a head of one number.
        renderer: its own, so that it reads what it was trained to read.
        micro_tokens: tokens of one forward pass, at most; None: rows one by one.
    """

    def __init__(self, name: str, policy: Policy, renderer: Renderer, micro_tokens: int | None) -> None:
        self.name, self._policy, self._renderer, self._micro_tokens = name, policy, renderer, micro_tokens

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n]; not-a-number where its template does not take the turns."""
        values = np.full(len(answers), np.nan)
        rows: list[Rendered] = []
        turns = [
            Judged(
                origin=Origin("answer", place),
                prompt=answer.asked.messages,
                completion=(Message("assistant", answer.text),),
                liked=True,
            )
            for place, answer in enumerate(answers)
        ]
        for made in self._renderer.render_many(list(enumerate(turns))):
            if not isinstance(made, Problem):
                rows += made.rendered
        for members in self._bins(rows):
            own = [rows[index] for index in members]
            found = self._policy.score(collate(own))[:, 0].float().cpu().numpy()
            values[[row.row for row in own]] = found
        return values

    def _bins(self, rows: Sequence[Rendered]) -> list[list[int]]:
        if self._micro_tokens is None:
            return [[index] for index in range(len(rows))]
        return pack([len(row) for row in rows], self._micro_tokens)


FORM = """

Question:
{question}

Answer to grade:
{answer}
{reference}
Reply with one JSON object and nothing else: {{"score": N}}, N a number from 0 (worthless) to {scale} (could not be better)."""
TRIES = 2
"""Times that a judge is asked for a reply that can be read."""
REPLY_TOKENS = 512
"""Longest reply, which may begin with reasoning."""


@dataclass
class ByJudge:
    """Another model that grades each answer from 0 to `scale`; the reward is the share of it, 0 to 1.

    A reply without a readable score is asked for again, then counted in `failures`, and gives not-a-number.
    """

    name: str
    writer: Writer
    instruction: str
    scale: int
    seed: int = 0
    failures: int = field(default=0, init=False)
    """Answers that could not be graded so far."""

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n]. Raises ModelError where the judge cannot be reached."""
        values = np.full(len(answers), np.nan)
        left = list(range(len(answers)))
        for attempt in range(TRIES):
            prompts = [self._question(answers[place]) for place in left]
            replies = self.writer.write(
                prompts, max_new_tokens=REPLY_TOKENS, temperature=0.0 if attempt == 0 else 1.0, seed=self.seed + attempt
            )
            for number, reply in replies:
                found = graded(reply, self.scale)
                if found is not None:
                    values[left[number]] = found / self.scale
            left = [place for place in left if math.isnan(values[place])]
            if not left:
                break
        self.failures += len(left)
        return values

    def _question(self, answer: Answer) -> str:
        right = answer.asked.reference
        reference = "" if right is None else f"\nA right answer, to compare with:\n{right}\n"
        return self.instruction + FORM.format(
            question=answer.asked.text, answer=answer.text, reference=reference, scale=self.scale
        )


@dataclass(frozen=True, slots=True)
class Weighted:
    """The weighted sum of several rewards; not-a-number where one of them could not tell."""

    parts: Sequence[tuple[Reward, float]]

    @property
    def name(self) -> str:
        """All names."""
        return " + ".join(reward.name for reward, _ in self.parts)

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n]"""
        total = np.zeros(len(answers))
        for reward, weight in self.parts:
            total += weight * reward.score(answers)
        return total
