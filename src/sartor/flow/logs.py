"""Looks into a request log, takes users out of it, and gives its corrections back as training rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.console import printable, table
from sartor.errors import InputError, Problem
from sartor.monitor import removal, segments
from sartor.monitor.index import Entry, Index
from sartor.monitor.records import Feedback, Record
from sartor.monitor.redaction import user_hash
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

PREVIEW = 48
"""Characters of a prompt in a list."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The latest answers."""

    answers: int
    feedback: int
    entries: tuple[tuple[Entry, str], ...]
    """With the beginning of the last message; newest first."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        listed = [
            {
                "id": entry.id, "time": entry.time, "model": entry.model, "arm": entry.arm, "ended": list(entry.ended),
                "made": entry.made, "seconds": entry.seconds, "thumb": entry.thumb, "score": entry.score,
                "corrected": entry.corrected, "shadow_of": entry.shadow_of, "prompt": text,
            }
            for entry, text in self.entries
        ]  # fmt: skip
        return {"answers": self.answers, "feedback": self.feedback, "entries": listed}

    def render(self, console: Console) -> None:
        """A line for each."""
        lines = []
        for entry, text in self.entries:
            said = [
                entry.thumb or "",
                f"{entry.score:.2f}" if entry.score is not None else "",
                "fixed" * entry.corrected,
            ]
            when = time.strftime("%m-%d %H:%M:%S", time.localtime(entry.time))
            model = f"{entry.model}{' (shadow)' if entry.shadow_of else ''}"
            lines.append(
                [entry.id, when, model, f"{entry.made:,}", f"{entry.seconds:.2f}", " ".join(sorted(set(entry.ended))),
                 " ".join(filter(None, said)), text]
            )  # fmt: skip
        table(console, ["id", "time", "model", "tokens", "seconds", "ended", "said", "prompt"], lines)
        console.print(f" {self.answers:,} answers, {self.feedback:,} times feedback", soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer with all that was said of it."""

    record: Record
    said: tuple[Feedback, ...]

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {**self.record.json(), "feedback": [each.json() for each in self.said]}

    def render(self, console: Console) -> None:
        """As a conversation."""
        record = self.record
        console.print(
            f" {record.id}   {record.model}   {' '.join(record.ended)}   {record.seconds:.2f} s", soft_wrap=True
        )
        for turn in record.messages or ():
            console.print(printable(f" {turn['role']}: {turn['content']}"), soft_wrap=True)
        for answer in record.answers or ("(its text was not kept)",):
            console.print(printable(f" answer: {answer}"), soft_wrap=True)
        for each in self.said:
            told = {name: value for name, value in each.json().items() if name not in ("kind", "of", "time")}
            console.print(printable(f" said: {json.dumps(told, ensure_ascii=False)}"), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Exported:
    """Training rows that were written."""

    out: str
    rows: int
    corrected: int
    left_out: int
    """Answers that somebody said something of, and that are no example: bad ones without a correction, and those cut off."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {"out": self.out, "rows": self.rows, "corrected": self.corrected, "left_out": self.left_out}

    def render(self, console: Console) -> None:
        """How many, and of what kind."""
        what = f" {self.rows:,} rows ({self.corrected:,} corrected), {self.left_out:,} left out: {self.out}"
        console.print(printable(what), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed of a user."""

    removed: removal.Removed

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        found = self.removed
        return {
            "answers": found.answers, "feedback": found.feedback, "segments": found.segments,
            "first": found.first, "last": found.last,
        }  # fmt: skip

    def render(self, console: Console) -> None:
        """How much, and from when."""
        found = self.removed
        days = "" if found.first is None or found.last is None else (
            f", from {segments.day(found.first)} to {segments.day(found.last)}"
        )  # fmt: skip
        what = f" removed: {found.answers:,} answers, {found.feedback:,} times feedback{days}; {found.segments:,} files rewritten"
        console.print(what, soft_wrap=True)


def listed(folder: Path, most: int, *, model: str | None, user: str | None, said: bool) -> Listed:
    """The latest answers. Raises InputError V131 where there is no log."""
    with _index(folder) as index:
        hashed = None if user is None else user_hash(user, segments.secret(folder))
        entries = index.latest(most, model=model, user=hashed, said=said)
        answers, feedback = index.counted()
        return Listed(answers, feedback, tuple((entry, _preview(index, entry)) for entry in entries))


def shown(folder: Path, name: str) -> Shown:
    """One answer. Raises InputError V131 where there is no log, V135 where it is not in it."""
    with _index(folder) as index:
        entry = index.find(name)
        if entry is None:
            what = f'no answer "{name}" in the log'
            raise InputError(Problem("V135", what, file=str(folder), fix="sartor logs list says which there are"))
        return Shown(index.body(entry), tuple(index.said(name)))


def export(folder: Path, out: Path, *, score: float) -> Exported:
    """Write what people approved of, and what they wrote instead of the answer, as rows in messages format.

    A row is a conversation whose last turn is the correction, else the answer where the thumb is up or the score `score` or more.
    Raises InputError V131.
    """
    rows, corrected, left_out = [], 0, 0
    with _index(folder) as index:
        for entry in index.judged():
            record, said = index.body(entry), index.said(entry.id)
            merged = said[0]
            for later in said[1:]:
                merged = merged.then(later)
            liked = merged.thumb == "up" or (
                merged.thumb is None and merged.score is not None and merged.score >= score
            )
            whole = record.answers is not None and len(record.answers) == 1 and record.ended == ("stop",)
            if merged.correction is None and not (liked and whole and record.answers):
                left_out += 1
                continue
            corrected += merged.correction is not None
            answer = merged.correction if merged.correction is not None else (record.answers or ("",))[0]
            messages = [*map(dict, record.messages or ()), {"role": "assistant", "content": answer}]
            rows.append(
                json.dumps({"messages": messages, "request": record.id, "model": record.model}, ensure_ascii=False)
            )
    atomic.write_text(out, "".join(f"{row}\n" for row in rows))
    return Exported(str(out), len(rows), corrected, left_out)


def forgotten(folder: Path, user: str) -> Forgotten:
    """Remove a user. Raises InputError V131."""
    return Forgotten(removal.forget(folder, user))


@contextmanager
def _index(folder: Path) -> Iterator[Index]:
    with closing(Index(segments.existing(folder))) as index:
        index.catch_up()
        yield index


def _preview(index: Index, entry: Entry) -> str:
    messages = index.body(entry).messages if entry.texts else None
    text = " ".join(messages[-1]["content"].split()) if messages else ""
    return text if len(text) <= PREVIEW else f"{text[: PREVIEW - 1]}…"
