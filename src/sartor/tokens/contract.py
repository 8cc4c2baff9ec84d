"""The supervision contract: before the first step, every row is proven to teach what its author wrote, and nothing else.

`Renderer` proves each row: the supervised tokens read as the answer plus end-of-turn, and every message stands in the
rendering once, whole and in order. Here the rows go through that proof in a stream, over-long ones are dealt with as the
recipe says, all problems are gathered, and what remains is stored for training.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from sartor.data.rows import Example, Judged, Origin, Preference, Prompt, Ranking, Row, Text
from sartor.errors import Problem, TokenError
from sartor.events import Event, Progressed
from sartor.tokens.batch import Rendered
from sartor.tokens.render import Renderer
from sartor.tokens.shorten import shorten, shorten_together, within
from sartor.tokens.store import TokenSet
from sartor.tokens.weigh import Notes

if TYPE_CHECKING:
    from sartor.data.findings import Findings

TooLong = Literal["error", "drop", "cut_prompt"]
_CHUNK = 256
TURN_MARKS = ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<|turn|>", "<|user|>", "<|start|>", "[INST]")
"""Control tokens by which families of models mark turns."""


class Rows(Protocol):
    """Rows by index."""

    def __getitem__(self, index: int, /) -> Row: ...


def supervise(
    dataset: Rows,
    indices: Sequence[int] | np.ndarray,
    renderer: Renderer,
    *,
    max_tokens: int,
    too_long: TooLong,
    folder: Path,
    label: str,
    findings: Findings,
    emit: Callable[[Event], None],
) -> TokenSet:
    """Tokenise rows `indices` of the dataset into `folder`, proving the contract for each.

    Chat rows longer than `max_tokens` go by `too_long`. Raw texts are cut into windows that overlap by one token, so
    that every token is learnt exactly once; that loses nothing. `label` names the part in progress events.

    Raises:
        TokenError: every row that breaks the contract, after all rows were looked at; nothing is stored.
    """
    work = _Pass(renderer, max_tokens, too_long, findings, label)
    return TokenSet.write(work.rows(dataset, np.asarray(indices), emit), folder)


def windows(rendered: Rendered, max_tokens: int) -> Iterator[Rendered]:
    """A long document in windows of at most `max_tokens`; the last token of one is the first of the next.

    The first token of a window is never predicted, so each token but the very first is predicted exactly once.
    """
    step = max_tokens - 1
    for start in range(0, max(len(rendered) - 1, 1), step):
        part = slice(start, start + max_tokens)
        yield Rendered(rendered.ids[part], rendered.weight[part], rendered.row)


@dataclass(frozen=True, slots=True)
class _Over:
    """An over-long row; counts of tokens."""

    origin: Origin
    length: int
    prompt: int
    """Tokens before the first supervised one."""
    answer: int
    cut: int
    """Supervised tokens beyond the window."""


class _Pass:
    """One pass over the rows of one part."""

    def __init__(self, renderer: Renderer, max_tokens: int, too_long: TooLong, findings: Findings, label: str) -> None:
        if max_tokens < 2:
            raise ValueError("max_tokens must be at least 2")
        self.renderer, self.max_tokens, self.too_long = renderer, max_tokens, too_long
        self.findings, self.label = findings, label
        self.errors: dict[tuple[str, str | None, str], Problem] = {}
        self.over: list[_Over] = []
        self.lengths = array("q")
        self.kept = 0

    def rows(self, dataset: Rows, indices: np.ndarray, emit: Callable[[Event], None]) -> Iterator[Rendered]:
        """Every rendering that is kept, then the reckoning."""
        self._note_padding()
        if len(indices) and isinstance(dataset[int(indices[0])], Example | Preference | Judged | Ranking | Prompt):
            self._note_turns()
        for done in range(0, len(indices), _CHUNK):
            chunk = [(index, dataset[index]) for index in indices[done : done + _CHUNK].tolist()]
            for (index, row), result in zip(chunk, self.renderer.render_many(chunk), strict=True):
                if isinstance(result, Problem):
                    self._fail(result)
                    continue
                self._note(row.origin, result.notes)
                for rendered in self._fitted(row, index, result.rendered):
                    self.kept += 1
                    yield rendered
            emit(Progressed(f"tokens {self.label}", done + len(chunk), len(indices)))
        self._reckon(len(indices))

    def _fitted(self, row: Row, index: int, rendered: list[Rendered]) -> Iterable[Rendered]:
        if isinstance(row, Text):
            return (window for document in rendered for window in windows(document, self.max_tokens))
        longest = max(rendered, key=len)
        self.lengths.append(len(longest))
        kept = [within(one, self.max_tokens) for one in rendered]
        fitting = [one for one in kept if one is not None]
        if len(fitting) == len(kept):
            return fitting
        if self.too_long == "drop":
            self.findings.drop(row.origin, "too_long", f"longer than max_tokens {self.max_tokens:,}")
            self._tell("D130", row.origin, f"longer than max_tokens {self.max_tokens:,}; left out", "warning")
            return ()
        if self.too_long == "cut_prompt" and not longest.images:
            try:
                shortened = self._shortened(row, index)
            except TokenError as fault:
                self._fail(fault.problems[0])
                return ()
            if shortened is not None:
                self._tell("D132", row.origin, "the oldest part of the prompt was cut to fit max_tokens", "warning")
                return shortened
        self.over.append(_over(row.origin, longest, self.max_tokens))
        return ()

    def _shortened(self, row: Row, index: int) -> list[Rendered] | None:
        """Renderings that fit; None where that cannot be. Raises TokenError."""
        if isinstance(row, Example):
            return shorten(row, index, self.renderer, self.max_tokens)
        if isinstance(row, Preference | Judged | Ranking):
            return shorten_together(row, index, self.renderer, self.max_tokens)
        return None

    def _note(self, origin: Origin, notes: Notes) -> None:
        for token in notes.controls:
            self._tell(
                "D140", origin, f'the text holds the control token "{token}"; it is encoded as plain text', "warning"
            )
        if notes.expanded:
            what = "the chat template rewrites earlier turns when later ones follow; each answer gets a row of its own"
            self._tell("T211", origin, what, "info")
        if notes.stripped:
            self._tell("T216", origin, "the chat template strips whitespace around messages", "warning")
        if notes.unknown:
            self._tell("T219", origin, "an answer holds characters that the vocabulary does not have", "warning")
        elif notes.altered:
            self._tell("T225", origin, "the tokenizer normalises the text of an answer", "info")
        if notes.apart:
            what = "a token would straddle prompt and answer; the two are encoded apart, as at inference"
            self._tell("T226", origin, what, "info")

    def _note_padding(self) -> None:
        pad, eos = self.renderer.vocabulary.pad_id, self.renderer.vocabulary.eos_id
        if pad is not None and pad == eos:
            what = f"padding and end of text are the same id {pad}; rows are never padded, so the end is learnt all the same"
            self.findings.add(Problem("T214", what, level="info"))

    def _note_turns(self) -> None:
        """T213 where the vocabulary has marks for turns and the template writes none of them."""
        template = self.renderer.template
        known = [mark for mark in TURN_MARKS if mark in self.renderer.vocabulary.special_tokens]
        if known and not any(mark in template.source for mark in known):
            what = f'the base was made for turns marked with "{known[0]}", which {template.label} does not write'
            fix = "leave base.template out, or write turns as the base knows them"
            self.findings.add(Problem("T213", what, level="warning", fix=fix))

    def _tell(self, code: str, origin: Origin, what: str, level: Literal["warning", "info"]) -> None:
        self.findings.add(Problem(code, what, file=origin.file, line=origin.line, level=level))

    def _fail(self, problem: Problem) -> None:
        self.findings.add(problem)
        self.errors.setdefault((problem.code, problem.file, problem.what), problem)

    def _reckon(self, total: int) -> None:
        """Raise what was found; the stored rows are not published then."""
        for problem in self._too_long_problems(total):
            self._fail(problem)
        if total and not self.kept and not self.errors:
            what = f"no row of {self.label} is left: all are longer than max_tokens {self.max_tokens:,}"
            self._fail(Problem("T201", what, fix="raise data.max_tokens, or data.too_long: cut_prompt"))
        if self.errors:
            mine = set(self.errors)
            told = [found for found in self.findings.problems if found.level == "error"]
            raise TokenError(*([found for found in told if _same(found, mine)] or self.errors.values()))

    def _too_long_problems(self, total: int) -> Iterator[Problem]:
        for code in ("D130", "D131"):
            by_file: dict[str, list[_Over]] = {}
            for over in self.over:
                if (over.prompt >= self.max_tokens) == (code == "D130"):
                    by_file.setdefault(over.origin.file, []).append(over)
            for file, rows in by_file.items():
                first, lines = rows[0], tuple(over.origin.line for over in rows[1:])
                count = f"{len(rows):,} of {total:,} rows ({len(rows) / total:.1%})"
                what = self._what(code, first) + f"; {count}"
                yield Problem(code, what, file=file, line=first.origin.line, fix=self._fix(), rows=lines)

    def _what(self, code: str, over: _Over) -> str:
        window = f"max_tokens is {self.max_tokens:,}"
        alone = ", and the answer does not fit even with its prompt cut" if self.too_long == "cut_prompt" else ""
        if code == "D130":
            return f"the prompt has {over.prompt:,} tokens, {window}: no answer token would be trained{alone}"
        return (
            f"{over.cut:,} of {over.answer:,} answer tokens, with the end-of-turn token, would be cut; the row has "
            f"{over.length:,} tokens, {window}{alone}"
        )

    def _fix(self) -> str:
        lengths = np.sort(np.array(self.lengths))
        most, every = int(lengths[math.ceil(0.99 * len(lengths)) - 1]), int(lengths[-1])
        keep = f"data.max_tokens: {every} keeps all rows"
        if self.max_tokens < most < every:
            keep = f"data.max_tokens: {most} keeps 99 %, {every} keeps all"
        others = "data.too_long: drop" if self.too_long == "cut_prompt" else "data.too_long: cut_prompt or drop"
        return f"{keep} (if the model's window allows it); or {others}"


def _over(origin: Origin, rendered: Rendered, max_tokens: int) -> _Over:
    supervised = np.flatnonzero(rendered.weight)
    cut = int((supervised >= max_tokens).sum())
    return _Over(origin, len(rendered), int(supervised[0]), len(supervised), cut)


def _same(found: Problem, mine: set[tuple[str, str | None, str]]) -> bool:
    """`Findings` appends the number of rows to the message."""
    return any(found.code == code and found.file == file and found.what.startswith(what) for code, file, what in mine)
