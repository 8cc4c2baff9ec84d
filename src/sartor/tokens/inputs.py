"""Rows whose label is learnt, not text: how the model reads them, and their labels as numbers.

An encoder and an encoder-decoder read a text between the control tokens that their own tokenizer puts round it
([CLS] a [SEP] b [SEP]); models with token types know the second text by the token before it.
A decoder reads beginning-of-text, the text, end-of-text, with an empty line between two texts; what it knows of the whole row
stands on its last token. The loss weight of a row is on its last token alone. A text is cut only where `data.too_long` says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.rows import Example, Row, Tagged
from sartor.errors import Problem, TokenError
from sartor.events import Event, Progressed
from sartor.tokens.batch import Rendered
from sartor.tokens.layout import Fault
from sartor.tokens.render import Tokens
from sartor.tokens.store import TokenSet
from sartor.tokens.weigh import Notes

if TYPE_CHECKING:
    from sartor.data.findings import Findings
    from sartor.tokens.contract import Rows, TooLong
    from sartor.tokens.targets import Targets
    from sartor.tokens.vocabulary import Frame, Vocabulary

_CHUNK = 256
_APART = "\n\n"
"""Between two texts for a model whose tokenizer has nothing to put there."""


@dataclass(frozen=True, slots=True)
class Read:
    """Texts as a model reads them."""

    ids: np.ndarray
    """[L] int32"""
    firsts: np.ndarray
    """[words] int64, the place of each word's first token where the row is words, else empty"""
    cut: bool = False
    """Whether the beginning of a text was left out to make it fit."""


class Inputs:
    """Rows to ids and labels, for one vocabulary.

    Args:
        vocabulary: the model's vocabulary.
        frame: the control tokens round its texts.
        targets: what is learnt; None where there is nothing to learn, only to read.
    """

    def __init__(self, vocabulary: Vocabulary, frame: Frame, targets: Targets | None = None) -> None:
        self.vocabulary, self.frame, self.targets = vocabulary, frame, targets

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides ids and labels."""
        frame = [self.frame.single, self.frame.pair]
        parts = [self.vocabulary.fingerprint, frame, self.targets.fingerprint if self.targets else None]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def read(self, row: Row, most: int | None = None) -> Read:
        """The row as the model reads it, its texts cut to `most` tokens from the beginning of the longer one.

        Raises:
            TokenError: T223, T224 a text that cannot be told from control tokens.
            Fault: T232, T233 a text or a word of which no token is left.
        """
        if isinstance(row, Tagged):
            return self._words(row, most)
        parts = [self.vocabulary.encode(text, special=False) for text in texts(row)]
        if len(parts) == 2 and self.frame.pair is None:
            parts = [[*parts[0], *self.vocabulary.encode(_APART, special=True), *parts[1]]]
        if not all(parts):
            raise Fault("T233", "no token is left of a text of this row", fix="leave the row out")
        around = self._around(len(parts))
        cut = False
        if most is not None:
            room = most - sum(map(len, around))
            while sum(map(len, parts)) > room:
                longer = max(parts, key=len)
                over = sum(map(len, parts)) - room
                others = max((len(part) for part in parts if part is not longer), default=0)
                gone = min(over, max(1, len(longer) - others)) if len(parts) > 1 else over
                if len(longer) - gone < 1:
                    raise Fault(
                        "T234", f"no token of a text is left within {most:,} tokens", fix="raise data.max_tokens"
                    )
                del longer[:gone]
                cut = True
        ids = [*around[0]]
        for place, part in enumerate(parts):
            ids += [*part, *around[place + 1]]
        return Read(np.asarray(ids, np.int32), np.empty(0, np.int64), cut)

    def _around(self, texts: int) -> Sequence[Sequence[int]]:
        if texts == 2:
            assert self.frame.pair is not None
            return self.frame.pair
        return self.frame.single

    def _words(self, row: Tagged, most: int | None) -> Read:
        before, after = self.frame.single
        inner, offsets = self.vocabulary.placed(" ".join(row.tokens))
        ids = [*before, *inner, *after]
        if most is not None and len(ids) > most:
            raise Fault("T233", f"the words have {len(ids):,} tokens, at most {most:,} fit")
        firsts, place, start = [], 0, 0
        for word in row.tokens:
            while place < len(offsets) and offsets[place][1] <= start:
                place += 1
            if place == len(offsets) or offsets[place][0] >= start + len(word):
                raise Fault("T232", f'no token begins in the word "{word}", so its tag has no place')
            firsts.append(len(before) + place)
            place, start = place + 1, start + len(word) + 1
        return Read(np.asarray(ids, np.int32), np.asarray(firsts, np.int64))

    def render(self, row: Row, index: int, most: int | None = None) -> Rendered:
        """Ids and labels of one row; its weight is on its last token. Raises as `read` and `Targets.of`."""
        assert self.targets is not None
        read, said = self.read(row, most), self.targets.of(row)
        weight = np.zeros(len(read.ids), np.float32)
        weight[-1] = 1
        if isinstance(row, Tagged):
            labels = np.full(len(read.ids), np.nan, np.float32)
            labels[read.firsts] = said
            said = labels
        return Rendered(read.ids, weight, index, said)

    def render_many(self, rows: Sequence[tuple[int, Row]]) -> list[Tokens | Problem]:
        """`render` for many rows; one that cannot be read becomes the problem that says so."""
        found: list[Tokens | Problem] = []
        for index, row in rows:
            try:
                found.append(Tokens([self.render(row, index)], Notes()))
            except Fault as fault:
                where = row.origin
                found.append(Problem(fault.code, fault.what, file=where.file, line=where.line, fix=fault.fix))
            except TokenError as fault:
                found.append(replace(fault.problems[0], file=row.origin.file, line=row.origin.line))
        return found

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of ids, control tokens shown."""
        return self.vocabulary.decode_many(rows)


def texts(row: Row) -> tuple[str, ...]:
    """The text of a row that is judged as a whole, or both."""
    return row.texts() if isinstance(row, Example) else (row.prompt_text(),)


def supervise_inputs(
    dataset: Rows,
    indices: Sequence[int] | np.ndarray,
    inputs: Inputs,
    *,
    max_tokens: int,
    too_long: TooLong,
    folder: Path,
    label: str,
    findings: Findings,
    emit: Callable[[Event], None],
) -> TokenSet:
    """Tokenise rows `indices` of the dataset into `folder`, as `contract.supervise` does for answers.

    Raises:
        TokenError: every row that cannot be read, is too long, or has a label that no training row has; nothing is stored.
    """
    work = _Pass(inputs, max_tokens, too_long, findings, label)
    return TokenSet.write(work.rows(dataset, np.asarray(indices), emit), folder)


class _Pass:
    """One pass over the rows of one part."""

    def __init__(self, inputs: Inputs, max_tokens: int, too_long: TooLong, findings: Findings, label: str) -> None:
        self.inputs, self.max_tokens, self.too_long = inputs, max_tokens, too_long
        self.findings, self.label = findings, label
        self.problems: dict[tuple[str, str, str], list[Problem]] = {}
        self.longest = 0
        self.kept = 0

    def rows(self, dataset: Rows, indices: np.ndarray, emit: Callable[[Event], None]) -> Iterator[Rendered]:
        """Every rendering that is kept, then the reckoning."""
        for done in range(0, len(indices), _CHUNK):
            chunk = indices[done : done + _CHUNK].tolist()
            for index in chunk:
                row = dataset[index]
                rendered = self._rendered(row, index)
                if rendered is not None:
                    self.kept += 1
                    yield rendered
            emit(Progressed(f"tokens {self.label}", done + len(chunk), len(indices)))
        self._reckon(len(indices))

    def _rendered(self, row: Row, index: int) -> Rendered | None:
        try:
            rendered = self.inputs.render(row, index)
            self.longest = max(self.longest, len(rendered))
            if len(rendered) <= self.max_tokens:
                return rendered
            return self._fitted(row, index, rendered)
        except Fault as fault:
            self._fail(Problem(fault.code, fault.what, fix=fault.fix), row)
        except TokenError as fault:
            self._fail(fault.problems[0], row)
        return None

    def _fitted(self, row: Row, index: int, rendered: Rendered) -> Rendered | None:
        """An over-long row as the recipe wants it."""
        limit = f"max_tokens {self.max_tokens:,}"
        if self.too_long == "drop":
            self.findings.drop(row.origin, "too_long", f"longer than {limit}")
            self._tell("D130", f"longer than {limit}; left out", row)
            return None
        if self.too_long == "cut_prompt" and not isinstance(row, Tagged):
            self._tell("D132", f"the beginning of the text was cut to fit {limit}", row)
            return self.inputs.render(row, index, self.max_tokens)
        why = "; words that are tagged are not cut" if isinstance(row, Tagged) else ""
        self._fail(Problem("D130", f"the row does not fit: {limit}{why}"), row)
        return None

    def _tell(self, code: str, what: str, row: Row) -> None:
        self.findings.add(Problem(code, what, file=row.origin.file, line=row.origin.line, level="warning"))

    def _fail(self, problem: Problem, row: Row) -> None:
        placed = replace(problem, file=row.origin.file, line=row.origin.line)
        self.problems.setdefault((problem.code, row.origin.file, problem.what), []).append(placed)

    def _reckon(self, total: int) -> None:
        """Raise what was found; the stored rows are not published then."""
        told = []
        for (code, _, _), problems in self.problems.items():
            first, more = problems[0], tuple(problem.line for problem in problems[1:] if problem.line is not None)
            if code == "D130":
                how = "drop" if first.what.endswith("cut") else "cut_prompt or drop"
                keeps = f"data.max_tokens: {self.longest} keeps all rows (if the model's window allows it)"
                first = replace(first, fix=f"{keeps}; or data.too_long: {how}")
            count = f"; {len(problems):,} of {total:,} rows" if more else ""
            told.append(replace(first, what=first.what + count, rows=more))
        if total and not self.kept and not told:
            told.append(
                Problem("T201", f"no row of {self.label} is left: all are too long", fix="raise data.max_tokens")
            )
        for problem in told:
            self.findings.add(problem)
        if told:
            raise TokenError(*told)
