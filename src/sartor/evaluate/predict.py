"""One model on test rows: how likely it finds the reference, what it answers, which label it prefers.

Rows are read and finished in blocks, so memory does not grow with their number, and outcomes come in the order asked for.
Every prompt is made by the renderer that training uses; few-shot examples are earlier turns of the same conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.images import every
from sartor.data.rows import Example, Image, Labelled, Prompt, Row, Text
from sartor.errors import Problem, TokenError
from sartor.evaluate.labels import LabelScorer
from sartor.evaluate.likelihood import likelihood
from sartor.evaluate.preferences import rated
from sartor.evaluate.shots import with_shots
from sartor.events import Event, Noted, Progressed
from sartor.generate.local import LocalGenerator
from sartor.protocols import Outcome
from sartor.tokens.batch import Rendered
from sartor.tokens.render import Renderer

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset
    from sartor.evaluate.answer_cache import AnswerCache
    from sartor.models.base import ModelPolicy

BLOCK_BATCHES = 4
"""Batches of generated rows in one block: enough to put prompts of like length together."""
SMALLEST_BLOCK = 64


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row with the prompt that was made of it."""

    row: Example
    shots: Sequence[Example]
    ids: np.ndarray
    images: tuple[Image, ...]


@dataclass(slots=True)
class _Cuts:
    """What did not fit into the model's window; counts of rows."""

    shots: int = 0
    prompts: int = 0


def predict(
    policy: ModelPolicy,
    renderer: Renderer,
    dataset: Dataset | Sequence[Row],
    indices: Sequence[int],
    *,
    task: str,
    labels: Sequence[str] = (),
    shots: Sequence[Example] = (),
    max_new_tokens: int,
    batch: int,
    want: frozenset[str],
    emit: Callable[[Event], None],
    cache: AnswerCache | None = None,
) -> Iterator[Outcome]:
    """The outcome of every row of `indices`, in that order.

    Args:
        task: what the progress is called, with the model: "base", "tuned" ...
        labels: strings to choose from; needed when `want` holds label.
        shots: examples to show before each row.
        max_new_tokens: longest generated answer.
        batch: rows generated together.
        cache: answers that are known, and where new ones are kept.
        want: which of nll, prediction, label and answers (those that were compared) to measure. Raw text has only nll.

    Raises:
        TokenError: rows that the chat template refuses, with file and line of each.
    """
    measurer = Measurer(policy, renderer, labels, shots, max_new_tokens, batch, want, cache)
    size = max(SMALLEST_BLOCK, BLOCK_BATCHES * batch)
    for start in range(0, len(indices), size):
        rows = [_answerable(dataset[int(index)]) for index in indices[start : start + size]]
        yield from measurer.block(rows)
        emit(Progressed(task, start + len(rows), len(indices)))
    for note in measurer.notes():
        emit(note)


def _answerable(row: Row) -> Row:
    """The row as one that a model can answer."""
    return row.conversation() if isinstance(row, Prompt) else row


class Measurer:
    """The model with everything that stays the same from row to row."""

    def __init__(
        self,
        policy: ModelPolicy,
        renderer: Renderer,
        labels: Sequence[str],
        shots: Sequence[Example],
        max_new_tokens: int,
        batch: int,
        want: frozenset[str],
        cache: AnswerCache | None = None,
    ) -> None:
        unknown = want - {"nll", "prediction", "label", "answers"}
        if unknown:
            raise ValueError(f"cannot measure {', '.join(sorted(unknown))}")
        self.policy, self.renderer, self.labels, self.shots = policy, renderer, labels, shots
        self.cache = cache
        self.max_new_tokens, self.want, self.cuts = max_new_tokens, want, _Cuts()
        pad = renderer.vocabulary.pad_id or 0
        self.generator = LocalGenerator(policy, renderer.stop_ids, pad, renderer.text, batch)
        endings = [renderer.completion(label) for label in labels] if "label" in want else []
        self.scorer = LabelScorer(policy, endings, pad) if endings else None
        self.room = max([max_new_tokens if "prediction" in want else 0, *map(len, endings)])
        self.reference = Renderer(
            renderer.vocabulary,
            renderer.template,
            loss_on="last_answer",
            reasoning=renderer.reasoning,
            thinks=renderer.thinks,
            sight=renderer.sight,
        )

    def block(self, rows: Sequence[Row]) -> list[Outcome]:
        """Outcomes of some rows."""
        outcomes = [
            Outcome(
                id=row.id or str(row.origin),
                prompt="" if isinstance(row, Text) else row.prompt_text(),
                reference=row.text if isinstance(row, Text) else row.answer_text(),
                right_labels=list(row.labels) if isinstance(row, Labelled) else None,
                columns=row.columns,
            )
            for row in rows
        ]
        places = [place for place, row in enumerate(rows) if isinstance(row, Example)]
        asked = [self._ask(row) for row in rows if isinstance(row, Example)]
        if "answers" in self.want:
            outcomes = rated(self.policy, self.renderer, rows, outcomes)
        if "nll" in self.want:
            found = zip(outcomes, *self._likelihood(rows, dict(zip(places, asked, strict=True))), strict=True)
            outcomes = [
                replace(outcome, nll=float(nll), tokens=int(tokens), bytes=len(outcome.reference.encode()))
                for outcome, nll, tokens in found
            ]
        if self.scorer is not None:
            for place, scores in zip(places, self.scorer.score([one.ids.tolist() for one in asked]), strict=True):
                table = {label: round(float(score), 4) for label, score in zip(self.labels, scores, strict=True)}
                best = self.labels[int(scores.argmax())]
                outcomes[place] = replace(outcomes[place], label=best, label_scores=table)
        if "prediction" in self.want:
            for place, (text, stopped) in zip(places, self._answers(asked), strict=True):
                outcomes[place] = replace(outcomes[place], prediction=text, stopped=stopped)
        return outcomes

    def _answers(self, asked: Sequence[_Asked]) -> list[tuple[str, bool]]:
        """(text, ended by itself) of each; those that the cache knows are not generated."""
        prompts = [one.ids.tolist() for one in asked]
        found: list[tuple[str, bool] | None] = [None] * len(asked)
        if self.cache is not None:
            found = [
                None if one.images else self.cache.get(prompt, self.max_new_tokens)
                for one, prompt in zip(asked, prompts, strict=True)
            ]
        open_ = [place for place, answer in enumerate(found) if answer is None]
        made: dict[tuple[int, ...], tuple[str, bool]] = {}
        for index, text, stopped in self.generator.generate(
            [prompts[place] for place in open_],
            max_new_tokens=self.max_new_tokens,
            images=[asked[place].images for place in open_],
        ):
            place = open_[index]
            found[place] = (text, stopped)
            if not asked[place].images:
                made[tuple(prompts[place])] = (text, stopped)
        if self.cache is not None:
            self.cache.put(made, self.max_new_tokens)
        return [answer for answer in found if answer is not None]

    def notes(self) -> Iterator[Noted]:
        """What the user should know about the rows measured."""
        if self.cuts.shots:
            what = "rows were shown fewer examples than the others, because the model's window is full"
            yield Noted("warning", "E111", f"{self.cuts.shots:,} {what}")
        if self.cuts.prompts:
            what = "rows have prompts longer than the model's window; their oldest tokens were left out"
            yield Noted("warning", "E112", f"{self.cuts.prompts:,} {what}")
        if self.scorer is not None and not self.scorer.shared:
            yield Noted("info", "E113", "this model cannot score labels together; they were scored one by one")
        if self.generator.obstacle is not None:
            what = "answers were generated in padded batches that wait for their longest row"
            yield Noted("info", "E117", f"{what}, because of this model: {self.generator.obstacle}")

    def _ask(self, row: Example) -> _Asked:
        """The row's prompt, with as many shots as fit, and cut at its beginning where it does not fit even without."""
        window = self.policy.window
        shots = list(self.shots)
        while True:
            ids = self._prompt(row, shots)
            if window is None or len(ids) + self.room <= window or not shots:
                break
            shots.pop()
        self.cuts.shots += len(shots) < len(self.shots)
        images = every(with_shots(row, shots))
        if window is not None and len(ids) + self.room > window:
            if images:
                what = f"the prompt with its images has {len(ids):,} tokens; with the answer the window of {window:,} is too small"
                raise TokenError(
                    Problem("E129", what, row.origin.file, row.origin.line, fix="smaller images, or fewer")
                )
            self.cuts.prompts += 1
            ids = ids[-max(window - self.room, window // 2) :]
        return _Asked(row, shots, ids, images)

    def _prompt(self, row: Example, shots: Sequence[Example]) -> np.ndarray:
        try:
            return self.renderer.prompt(with_shots(row, shots), row.tools)
        except TokenError as error:
            origin = row.origin
            raise TokenError(*(replace(one, file=origin.file, line=origin.line) for one in error.problems)) from error

    def _likelihood(self, rows: Sequence[Row], asked: dict[int, _Asked]) -> tuple[np.ndarray, np.ndarray]:
        """(nll, tokens) of each row's text or last answer."""
        wanted: list[Row] = []
        for place, row in enumerate(rows):
            if place in asked:
                one = asked[place]
                answer = replace(one.row.answer(), weight=None)
                row = replace(one.row, messages=(*with_shots(one.row, one.shots), answer))
            wanted.append(row)
        rendered: list[Rendered] = []
        problems: list[Problem] = []
        for made in self.reference.render_many(list(enumerate(wanted))):
            if isinstance(made, Problem):
                problems.append(made)
            else:
                rendered.append(made.rendered[-1])
        if problems:
            raise TokenError(*problems)
        return likelihood(self.policy, rendered)
