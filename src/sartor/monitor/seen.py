"""What the watch reads of a request: from the request log, or from any JSONL whose columns a mapping names.

{"asked": {"text": "Where is my lamp?"}, "said": "It ships today.", "took": 0.8}
--map prompt=asked.text --map answer=said --map seconds=took
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sartor.errors import InputError, Problem, RunError
from sartor.monitor import segments
from sartor.monitor.records import FAULTS, Feedback, Record
from sartor.store import atomic

COLUMNS = ("id", "time", "prompt", "answer", "seconds", "ended", "model", "label", "score", "perplexity", "embedding")
"""What a mapping may name."""
KNOWN = ("error", "fault", "late", "timeout", "failed")
"""Values of a foreign column `ended` that are errors."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request with its answer, or something said of one. None: not known."""

    id: str
    file: str = ""
    at: int = 0
    """Byte at which its line begins."""
    time: float | None = None
    """Seconds since 1970."""
    prompt: str | None = None
    answer: str | None = None
    seconds: float | None = None
    failed: bool | None = None
    cut: bool | None = None
    """Whether the answer met its limit of tokens."""
    model: str | None = None
    label: str | None = None
    score: float | None = None
    """What people said of the answer, 0 to 1."""
    perplexity: float | None = None
    embedding: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A request log, or a JSONL file with the columns that mean something."""

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name of ours -> name of theirs, with dots for what lies deeper. For files alone."""

    @property
    def ours(self) -> bool:
        """Whether it is a folder of `sartor serve --log`."""
        return self.path.is_dir()

    def read(self, read: Mapping[str, list[Any]]) -> Iterator[tuple[Seen | None, str, list[Any]]]:
        """(record, file, [its mark, bytes read]) of everything after what was read; None for a line that says nothing of a request.

        A file that was rewritten (another mark) is read anew: `after` in `flow.watch` leaves out what was seen.
        Raises RunError V160 for a line that is no JSON object, V130 in a request log.
        """
        for path in segments.segments(self.path) if self.ours else [self.path]:
            mark = segments.uid(path) if self.ours else _beginning(path)
            before, start = read.get(path.name, [mark, 0])
            start = start if before == mark and path.stat().st_size >= start else 0
            for body, at, end in self._lines(path, start):
                yield self._seen(body, path.name, at), path.name, [mark or _beginning(path), end]

    def again(self, seen: Seen) -> Seen | None:
        """The record with its texts; None where it is no longer there."""
        path = self.path / seen.file if self.ours else self.path
        if not path.is_file():
            return None
        for body, at, _ in self._lines(path, seen.at):
            found = self._seen(body, seen.file, at)
            return found if found is not None and found.id == seen.id else None
        return None

    def _lines(self, path: Path, start: int) -> Iterator[tuple[dict[str, Any], int, int]]:
        if self.ours:
            for line in segments.lines(path, start):
                yield line.body, line.at, line.end
            return
        with atomic.coded(path, verb="read"), open(path, "rb") as file:
            file.seek(start)
            at = start
            for content in file:
                if not content.endswith(b"\n") and not _whole(content):
                    return
                if content.strip():
                    yield _parsed(content, path, at), at, at + len(content)
                at += len(content)

    def _seen(self, body: Mapping[str, Any], file: str, at: int) -> Seen | None:
        found = _of_log(body) if self.ours else self._foreign(body, file, at)
        return None if found is None else replace(found, file=file, at=at)

    def _foreign(self, body: Mapping[str, Any], file: str, at: int) -> Seen:
        told = {name: _column(body, self.columns.get(name, name)) for name in COLUMNS}
        ended = told["ended"]
        vector = told["embedding"]
        return Seen(
            id=str(told["id"]) if told["id"] is not None else f"{file}:{at}",
            time=_time(told["time"]),
            prompt=_text(told["prompt"]),
            answer=_text(told["answer"]),
            seconds=_number(told["seconds"]),
            failed=None if ended is None else str(ended) in KNOWN,
            cut=None if ended is None else ended == "length",
            model=_text(told["model"]),
            label=_text(told["label"]),
            score=_number(told["score"]),
            perplexity=_number(told["perplexity"]),
            embedding=tuple(map(float, vector)) if isinstance(vector, list) and vector else None,
        )


def columns_of(maps: Sequence[str]) -> dict[str, str]:
    """`prompt=question` -> {"prompt": "question"}. Raises InputError V161."""
    found = {}
    for text in maps:
        name, sign, theirs = text.partition("=")
        if not sign or not theirs or name not in COLUMNS:
            fix = f"OURS=THEIRS with one of {', '.join(COLUMNS)}, such as prompt=question"
            raise InputError(Problem("V161", f'"{text}" maps no column', fix=fix))
        found[name] = theirs
    return found


def _of_log(body: Mapping[str, Any]) -> Seen | None:
    if body["kind"] == "answer":
        record = Record.of(body)
        if record.shadow_of is not None:
            return None
        asked = None
        if record.messages is not None:
            asked = "\n".join(message["content"] for message in record.messages if message["role"] != "system")
        return Seen(
            id=record.id,
            time=record.time,
            prompt=asked,
            answer=record.answers[0] if record.answers else None,
            seconds=record.seconds,
            failed=any(end in FAULTS for end in record.ended),
            cut="length" in record.ended,
            model=record.model,
        )
    if body["kind"] == "feedback":
        said = Feedback.from_line(body)
        score = said.score
        if score is None and (said.thumb is not None or said.correction is not None):
            score = float(said.thumb == "up")
        return None if score is None else Seen(id=said.of, time=said.time, score=score)
    return None


def _column(body: Mapping[str, Any], name: str) -> Any:
    if name in body:
        return body[name]
    value: Any = body
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _text(value: Any) -> str | None:
    """Texts as they are, lists of messages as their contents, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        return "\n".join(str(turn["content"]) for turn in value if turn.get("role") != "system")
    return json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _time(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return _number(value)


def _beginning(path: Path) -> str:
    """A mark of a foreign file: which one it is on its disk."""
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _whole(content: bytes) -> bool:
    """Whether a last line without its newline is complete."""
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _parsed(content: bytes, path: Path, at: int) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    with open(path, "rb") as file:
        number = file.read(at).count(b"\n") + 1
    excerpt = content[:60].decode(errors="backslashreplace").strip()
    fix = "one JSON object per line, with the columns that --map names"
    raise RunError(
        Problem("V160", "this line is no JSON object", file=str(path), line=number, excerpt=excerpt, fix=fix)
    )
