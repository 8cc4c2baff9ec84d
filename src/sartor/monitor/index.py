"""A SQLite index of a request log: who, when, which model, how it ended, what was said; never a text.

The segments are the truth. The index knows how far it has read each one and reads on from there, so it may be behind, wrong by a crash
or removed, and is right again at the next look. A segment that was rewritten (another uid) is read anew.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.errors import Problem, SartorError
from sartor.monitor import segments
from sartor.monitor.records import Feedback, Record

NAME = "index.sqlite"
VERSION = 1
PATIENCE = 30.0
"""Seconds to wait for another process that writes the index."""
TABLES = """
CREATE TABLE segment (name TEXT PRIMARY KEY, uid TEXT NOT NULL, read INTEGER NOT NULL);
CREATE TABLE answer (
    id TEXT PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, arm TEXT, ab TEXT, user TEXT, ended TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, made INTEGER NOT NULL, seconds REAL NOT NULL, shadow_of TEXT, texts INTEGER NOT NULL,
    segment TEXT NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX answer_user ON answer (user);
CREATE INDEX answer_ab ON answer (ab, time);
CREATE INDEX answer_time ON answer (time);
CREATE INDEX answer_segment ON answer (segment);
CREATE TABLE feedback (of TEXT NOT NULL, time REAL NOT NULL, segment TEXT NOT NULL, at INTEGER NOT NULL,
    thumb TEXT, score REAL, corrected INTEGER NOT NULL, PRIMARY KEY (segment, at));
CREATE INDEX feedback_of ON feedback (of);
CREATE TABLE rollback (ab TEXT NOT NULL, arm TEXT NOT NULL, guard TEXT NOT NULL, time REAL NOT NULL,
    n INTEGER NOT NULL, low REAL NOT NULL, high REAL NOT NULL, segment TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (segment, at));
"""
COLUMNS = """
    id, time, model, arm, ab, user, ended, prompt_tokens, made, seconds, shadow_of, texts, segment, at,
    (SELECT thumb FROM feedback WHERE of = id AND thumb IS NOT NULL ORDER BY feedback.segment DESC, feedback.at DESC LIMIT 1),
    (SELECT score FROM feedback WHERE of = id AND score IS NOT NULL ORDER BY feedback.segment DESC, feedback.at DESC LIMIT 1),
    (SELECT MAX(corrected) FROM feedback WHERE of = id)
"""
"""Of an `Entry`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as the index knows it."""

    id: str
    time: float
    model: str
    arm: str | None
    ab: str | None
    user: str | None
    ended: tuple[str, ...]
    prompt_tokens: int
    made: int
    seconds: float
    shadow_of: str | None
    texts: bool
    """Whether the log holds its texts."""
    segment: str
    at: int
    thumb: str | None = None
    score: float | None = None
    corrected: bool = False


class Index:
    """The index of one folder; any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._base = self._opened()

    def catch_up(self) -> None:
        """Read what the segments hold beyond what is known. Raises RunError V130 for a damaged line."""
        with segments.exclusive(self.folder), self._change() as base:
            known = {name: (uid, read) for name, uid, read in base.execute("SELECT name, uid, read FROM segment")}
            paths = {path.name: path for path in segments.segments(self.folder)}
            for name in known.keys() - paths.keys():
                self._drop(name)
            for name, path in paths.items():
                before, read = known.get(name, ("", 0))
                if name in known and path.stat().st_size == read and name != max(paths):
                    continue
                uid = segments.uid(path)
                if uid != before or path.stat().st_size < read:
                    self._drop(name)
                    read = 0
                for line in segments.lines(path, read):
                    self._take(line, name)
                    read = line.end
                base.execute("INSERT OR REPLACE INTO segment VALUES (?, ?, ?)", (name, uid, read))

    def forget_removed(self) -> None:
        """Leave no trace of removed rows in the index's files."""
        with self._lock, self._said():
            self._base.execute("VACUUM")
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def find(self, id: str) -> Entry | None:
        """An answer by its id."""
        return next(self._entries("WHERE id = ?", (id,)), None)

    def latest(
        self, most: int, *, model: str | None = None, user: str | None = None, said: bool = False
    ) -> list[Entry]:
        """The latest answers, newest first; of one model, of one user (its hash), or those alone that somebody said something of."""
        where, values = ["1"], list[Any]()
        for column, value in (("model", model), ("user", user)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if said:
            where.append("id IN (SELECT of FROM feedback)")
        return list(
            self._entries(f"WHERE {' AND '.join(where)} ORDER BY time DESC, rowid DESC LIMIT ?", (*values, most))
        )

    def of_test(self, ab: str) -> Iterator[Entry]:
        """The answers of a test in the order in which they were given; no shadows."""
        return self._entries("WHERE ab = ? AND arm IS NOT NULL AND shadow_of IS NULL ORDER BY time, rowid", (ab,))

    def judged(self) -> Iterator[Entry]:
        """Answers with texts that somebody has said something of, oldest first."""
        return self._entries(
            "WHERE texts AND shadow_of IS NULL AND id IN (SELECT of FROM feedback) ORDER BY time, rowid", ()
        )

    def tests(self) -> list[str]:
        """Names of all tests, the latest first."""
        rows = self._asked("SELECT ab FROM answer WHERE ab IS NOT NULL GROUP BY ab ORDER BY MAX(time) DESC", ())
        return [row[0] for row in rows]

    def rollbacks(self, ab: str) -> list[tuple[str, str, float, int, float, float]]:
        """(arm, guard, time, n, low, high) of every rollback in a test."""
        found = self._asked("SELECT arm, guard, time, n, low, high FROM rollback WHERE ab = ? ORDER BY time", (ab,))
        return [tuple(row) for row in found]

    def body(self, entry: Entry) -> Record:
        """Everything that the log holds of an answer."""
        return Record.of(segments.line_at(self.folder / entry.segment, entry.at))

    def said(self, id: str) -> list[Feedback]:
        """All that was said of an answer, in order."""
        places = self._asked("SELECT segment, at FROM feedback WHERE of = ? ORDER BY segment, at", (id,))
        return [Feedback.from_line(segments.line_at(self.folder / name, at)) for name, at in places]

    def counted(self) -> tuple[int, int]:
        """Answers, and what was said of them."""
        row = self._asked("SELECT (SELECT COUNT(*) FROM answer), (SELECT COUNT(*) FROM feedback)", ())[0]
        return int(row[0]), int(row[1])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def _opened(self) -> sqlite3.Connection:
        path = self.folder / NAME
        with self._said():
            try:
                return self._connected(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                for ending in ("", "-wal", "-shm"):
                    path.with_name(path.name + ending).unlink(missing_ok=True)
                return self._connected(path)

    @staticmethod
    def _connected(path: Path) -> sqlite3.Connection:
        base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute("PRAGMA secure_delete = ON")
        base.execute("BEGIN IMMEDIATE")
        if base.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            for name in ("segment", "answer", "feedback", "rollback"):
                base.execute(f"DROP TABLE IF EXISTS {name}")
            for statement in TABLES.split(";"):
                base.execute(statement)
            base.execute(f"PRAGMA user_version = {VERSION}")
        base.execute("COMMIT")
        return base

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock, self._said():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as fault:
            what = f"the index of the request log cannot be used: {fault}"
            fix = "remove it; it is made anew from the segments"
            raise SartorError(Problem("V133", what, file=str(self.folder / NAME), fix=fix)) from fault

    def _asked(self, question: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock, self._said():
            return self._base.execute(question, values).fetchall()

    def _entries(self, where: str, values: tuple[Any, ...]) -> Iterator[Entry]:
        for row in self._asked(f"SELECT {COLUMNS} FROM answer {where}", values):  # noqa: S608 - `where` is ours
            fields = list(row)
            fields[6], fields[11], fields[16] = tuple(row[6].split()), bool(row[11]), bool(row[16])
            yield Entry(*fields)

    def _drop(self, name: str) -> None:
        for table in ("answer", "feedback", "rollback"):
            self._base.execute(f"DELETE FROM {table} WHERE segment = ?", (name,))  # noqa: S608 - a name of ours
        self._base.execute("DELETE FROM segment WHERE name = ?", (name,))

    def _take(self, line: segments.Line, name: str) -> None:
        match line.body["kind"]:
            case "answer":
                one = Record.of(line.body)
                values: tuple[Any, ...] = (
                    one.id, one.time, one.model, one.arm, one.ab, one.user, " ".join(one.ended), one.prompt_tokens, one.made,
                    one.seconds, one.shadow_of, one.messages is not None, name, line.at,
                )  # fmt: skip
                self._base.execute(
                    "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
                )
            case "feedback":
                said = Feedback.from_line(line.body)
                values = (said.of, said.time, name, line.at, said.thumb, said.score, said.correction is not None)
                self._base.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            case "rollback":
                values = (
                    *(line.body[key] for key in ("ab", "arm", "guard", "time", "n", "low", "high")),
                    name,
                    line.at,
                )
                self._base.execute("INSERT OR REPLACE INTO rollback VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
