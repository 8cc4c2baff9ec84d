"""General ability: of some answers to a short question, how likely the model finds the right one. What a model forgets shows here.

    evaluate: {general: {drop_at_most: 0.02}}
    goal: {success: [{metric: general, drop_at_most: 0.02}]}

    general = mean over questions of  p(right | question) / sum over its answers of p(answer | question)

p is the model's own probability of a whole answer, end of turn included ("the probability of the right choice", Schaeffer et al. 2024,
arXiv:2406.04391, section 3). It lies between 0 and 1, chance is one over the number of answers, and as it does not jump from wrong
to right it moves with small changes: fewer questions show a drop than accuracy would need. `general_accuracy` is the share of
questions whose right answer is the likeliest; `general_bits_per_byte` how surprised the model is by the right answers, which also
tells when it has only forgotten how to speak. A third of the questions, by a hash of their text, is kept for use during training and
for choosing the model; the verdict is measured on the others.

{"prompt": "Which animal barks?", "completion": "A dog.", "wrong": ["A cat.", "A hen."], "kind": "facts"}
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.findings import Findings
from sartor.data.reading import expand, read
from sartor.data.rows import Example, Row
from sartor.errors import DataError, Problem, TokenError, raise_errors
from sartor.evaluate.suites import Ground, Suite
from sartor.metrics._mean import Mean
from sartor.protocols import Metric, Outcome, Table
from sartor.recipe.schema import GENERAL
from sartor.recipe.schema import General as Options

if TYPE_CHECKING:
    from sartor.evaluate.suites import Subject
    from sartor.tokens.batch import Rendered
    from sartor.tokens.render import Renderer

__all__ = ["Options", "files", "suite"]

MOST = 600
"""Questions that are used by default."""
KEPT = 1 / 3
"""Share of the questions that is used in training."""
WRONG = 3
"""Wrong answers taken from other rows where a row names none."""
BLOCK = 64
"""Questions measured at a time."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answers, the right one first."""

    id: str
    row: Example
    answers: tuple[str, ...]
    kind: str

    def rendered(self, renderer: Renderer) -> list[Rendered]:
        """Each answer after the question. Raises TokenError with file and line where the template refuses it."""
        from sartor.tokens.batch import Rendered

        try:
            prompt = renderer.prompt(self.row.prompt(), self.row.tools)
        except TokenError as error:
            origin = self.row.origin
            raise TokenError(*(replace(one, file=origin.file, line=origin.line) for one in error.problems)) from error
        made = []
        for answer in self.answers:
            ids = renderer.completion(answer)
            weight = np.repeat(np.asarray([0, 1], dtype=np.float32), [len(prompt), len(ids)])
            made.append(Rendered(np.concatenate([prompt, ids]).astype(np.int32), weight, 0))
        return made


def share(logp: Sequence[float]) -> float:
    """The probability of the first answer among them all, given the log-probability of each."""
    values = np.asarray(logp, dtype=np.float64)
    odds = np.exp(values - values.max())
    return float(odds[0] / odds.sum())


def _likely(outcome: Outcome) -> float:
    scores = dict(outcome.label_scores)
    return share([scores.pop(outcome.reference), *scores.values()])


def _right(outcome: Outcome) -> float:
    return float(outcome.label == outcome.reference)


@dataclass(frozen=True, slots=True)
class ByKind(Mean):
    """A mean over questions that can also be told for each kind of them."""

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """One table: kind, questions, chance, score with its interval."""
        from sartor.evaluate.intervals import z

        kinds: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            kinds[str(outcome.columns.get("kind", ""))].append(outcome)
        if len(kinds) < 2:
            return ()
        rows = []
        for kind, some in sorted(kinds.items()):
            scores = np.array([self.score(outcome) for outcome in some])
            mean, reach = float(scores.mean()), z(confidence) * float(scores.std(ddof=1 if len(some) > 1 else 0))
            low, high = (max(0.0, mean - reach / len(some) ** 0.5), min(1.0, mean + reach / len(some) ** 0.5))
            chance = float(np.mean([1 / len(outcome.label_scores) for outcome in some]))
            rows.append((kind, len(some), chance, mean, low, high))
        return (Table("General ability by kind", ("kind", "questions", "chance", "score", "from", "to"), tuple(rows)),)


@dataclass(frozen=True, slots=True)
class Surprise:
    """Implements `Metric`: bits per byte of the right answers."""

    name: str = "general_bits_per_byte"
    higher_is_better: bool = False
    needs: str = "nll"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (bits, bytes)"""
        from sartor.metrics.bits_per_byte import METRIC

        return METRIC.stats(outcomes)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        from sartor.metrics.bits_per_byte import METRIC

        return METRIC.combine(sums)


METRIC = ByKind(GENERAL, _likely, needs="probabilities")
"""The score that is bounded."""


@dataclass(frozen=True, slots=True)
class General:
    """Implements `Suite`."""

    data: str
    questions: Sequence[Question]
    """Of the verdict."""
    kept: Sequence[Question]
    """For use in training."""
    speaks: bool = True

    @property
    def title(self) -> str:
        """Of its section."""
        return "General ability"

    @property
    def why(self) -> str:
        """What is measured."""
        chance = float(np.mean([1 / len(question.answers) for question in self.questions]))
        return (
            f"How likely the right answer is among those to each question of {self.data}, which has nothing to do with the "
            f"task; chance is {chance:.2f}. What it does not ask may be lost unseen. Other questions of the same file were "
            "used in training, none of these"
        )

    @property
    def metrics(self) -> Sequence[Metric]:
        """The score, its share of right answers, and surprise."""
        accuracy = Mean("general_accuracy", _right, needs="probabilities")
        return (METRIC, accuracy, Surprise())

    def __len__(self) -> int:
        """Questions of the verdict."""
        return len(self.questions)

    def measure(self, model: Subject, units: Sequence[int]) -> Iterator[Outcome]:
        """One outcome for each question."""
        from sartor.evaluate.likelihood import likelihood
        from sartor.events import Progressed

        for start in range(0, len(units), BLOCK):
            some = [self.questions[unit] for unit in units[start : start + BLOCK]]
            rendered = [question.rendered(model.renderer) for question in some]
            nll, tokens = likelihood(model.policy, [row for rows in rendered for row in rows])
            place = 0
            for question in some:
                end = place + len(question.answers)
                yield outcome(question, -nll[place:end], int(tokens[place]))
                place = end
            model.emit(Progressed(f"{model.name}: general ability", start + len(some), len(units)))


def outcome(question: Question, logp: Sequence[float] | np.ndarray, tokens: int = 0) -> Outcome:
    """What a model makes of a question, given the log-probability of each answer and the tokens of the right one."""
    right = question.answers[0]
    return Outcome(
        id=question.id,
        prompt=question.row.prompt_text(),
        reference=right,
        label=question.answers[int(np.argmax(logp))],
        label_scores={answer: round(float(one), 4) for answer, one in zip(question.answers, logp, strict=True)},
        nll=-float(logp[0]),
        tokens=tokens,
        bytes=len(right.encode()),
        columns={"kind": question.kind},
    )


def files(options: Options) -> list[str]:
    """What is read."""
    return [] if options.data.startswith("builtin:") else [options.data]


def suite(options: Options, ground: Ground) -> Suite:
    """Read the questions. Raises DataError with every fault of the file, D181 for rows that are none, D190 for too few."""
    findings = Findings()
    rows: list[Row] = [
        row for path in expand(options.data, ground.root) for row in read(path, findings=findings, label=str(path))
    ]
    raise_errors(DataError, findings.errors)
    strange = next((row for row in rows if not isinstance(row, Example)), None)
    if strange is not None:
        what = f"general ability is asked with questions and answers; rows of kind {strange.kind} are none"
        raise DataError(Problem("D181", what, file=options.data, fix='lines like {"prompt": ..., "completion": ...}'))
    most = MOST if options.rows == "auto" else options.rows
    found = sorted(_questions([row for row in rows if isinstance(row, Example)]), key=lambda each: each.id)[:most]
    kept = round(KEPT * len(found))
    if not kept or len(found) == kept:
        what = f"{len(found)} questions with different answers are too few to see whether general ability falls"
        raise DataError(Problem("D181", what, file=options.data, fix="a few hundred, or evaluate.general: false"))
    return General(options.data, found[kept:], found[:kept])


def _questions(rows: Sequence[Example]) -> Iterator[Question]:
    """Each row once that has something to choose from; its id is a hash of its text, so that their order says nothing."""
    others = sorted({row.answer_text() for row in rows})
    seen: set[str] = set()
    for row in rows:
        right = row.answer_text()
        digest = hashlib.sha256(f"{row.prompt_text()}\0{right}".encode()).hexdigest()[:12]
        wrong = _named(row.columns.get("wrong"))
        if not wrong:
            pool = [each for each in others if each != right]
            wrong = Random(digest).sample(pool, min(WRONG, len(pool)))
        answers = tuple(dict.fromkeys([right, *wrong]))
        if digest not in seen and len(answers) > 1:
            seen.add(digest)
            yield Question(digest, row, answers, str(row.columns.get("kind", "")))


def _named(wrong: Any) -> list[str]:
    """The wrong answers of a row, as a list or as one text."""
    if isinstance(wrong, str):
        return [wrong]
    return [str(each) for each in wrong] if isinstance(wrong, list | tuple) else []
