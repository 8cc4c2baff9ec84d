"""Reads a request log, or any JSONL of requests, tells what has drifted, and goes on doing so."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.console import printable, table
from sartor.data.rows import Example, Row
from sartor.errors import InputError, Problem, RunError
from sartor.events import Event, Noted, Stage
from sartor.flow.data_versions import opened
from sartor.monitor.alarms import Alarm, value_text
from sartor.monitor.alerts import Alert, parse
from sartor.monitor.features import Plan, hashed
from sartor.monitor.seen import Seen, Source, columns_of
from sartor.monitor.segments import SECRET
from sartor.monitor.watch import Watch
from sartor.store import atomic
from sartor.store.run import is_run

if TYPE_CHECKING:
    from rich.console import Console

LOG = "requests"
"""A run's own request log, where it has one."""
STATE, PLAN, LOCK = "state.json", "plan.json", ".lock"
MOST_REFERENCE = 20_000
AT_ONCE = 500
"""Records after which a daemon saves where it stands."""
GIVEN_UP = 5
"""Rounds in which an alert may fail before it is given up."""
SHOWN = 160
"""Characters of a row that are shown."""

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is watched, and against what."""

    target: str
    reference: str | None = None
    since: str | None = None
    maps: tuple[str, ...] = ()
    model: str | None = None
    first: int = 1000
    """Requests of the stream that it is compared with, where there is no reference."""
    alpha: float = 0.01


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of an alarm, with its texts where they are still there."""

    id: str
    file: str
    value: str
    prompt: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Watched:
    """What was found."""

    target: str
    reference: str
    requests: int
    alpha: float
    alarms: tuple[Alarm, ...]
    rows: Mapping[str, tuple[Shown, ...]]
    """Id of an alarm -> its rows."""
    table: tuple[Mapping[str, Any], ...]
    waiting: int
    """Requests still to come before there is anything to compare with."""
    seconds: float

    @property
    def exit_code(self) -> int:
        """1 while alarms stand."""
        return 1 if self.alarms else 0

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        names = ("target", "reference", "requests", "alpha", "waiting", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "alarms": [told(alarm, self.rows[alarm.id]) for alarm in self.alarms],
            "features": [dict(line) for line in self.table],
        }

    def render(self, console: Console) -> None:
        """The features in a table, then each alarm with its rows."""
        console.print(printable(f" {self.target}: {self.requests:,} requests, compared with {self.reference}"))
        if self.waiting:
            console.print(f" {self.waiting:,} more requests are needed to compare with")
            return
        lines = [
            [line["feature"], line["before"], line["latest"], f"{line['values']:,}", "ALARM" if line["alarm"] else f"{line['evidence']:.2f}"]
            for line in self.table
            if line["values"]
        ]  # fmt: skip
        table(console, ["feature", "usual", "latest", "values", "evidence of 1"], lines)
        for alarm in self.alarms:
            since = f"request {alarm.since:,}" + (f", {_when(alarm.since_time)}" if alarm.since_time else "")
            console.print(printable(f"\n ALARM {alarm.what}: {alarm.before} -> {alarm.after}"), soft_wrap=True)
            console.print(f"   since about {since}; certain at request {alarm.number:,}", soft_wrap=True)
            for row in self.rows[alarm.id]:
                text = row.answer if alarm.feature.startswith("answer") else row.prompt
                console.print(printable(f"   {row.value:>12}  {row.id}  {_short(text)}"), soft_wrap=True)
            console.print(printable(f"   next: {alarm.next}"), soft_wrap=True)
        if not self.alarms:
            console.print(f" no alarm; a stable stream ever raises one with a chance of {self.alpha:g} at most")


@dataclass(slots=True)
class Reader:
    """Where a watch stands in its source."""

    wanted: Wanted
    source: Source
    reference: str
    began: float
    """Records before that time do not count."""
    state: Path | None
    watch: Watch | None = None
    read: dict[str, list[Any]] = field(default_factory=dict)
    told: dict[str, dict[str, int]] = field(default_factory=dict)
    """Alarm -> alert -> failed rounds; -1: told."""
    waiting: list[Seen] = field(default_factory=list)

    def step(self) -> int:
        """Read what is there beyond what was read, and save; how many records counted."""
        anew: set[str] = set()
        part: list[Seen] = []
        read = dict(self.read)
        before = self.watch.latest if self.watch is not None else 0.0
        count = 0
        for seen, file, mark in self.source.read(self.read):
            if file in self.read and mark[0] != self.read[file][0]:
                anew.add(file)
            read[file] = mark
            if (
                seen is None
                or not self._counts(seen)
                or (file in anew and seen.time is not None and seen.time <= before)
            ):
                continue
            part.append(seen)
            count += 1
            if len(part) == AT_ONCE:
                self._take(part)
                part = []
                self._save(read)
        self._take(part)
        if count or read != self.read:
            self._save(read)
        self.read = read
        return count

    def alert(self, alerts: Sequence[Alert], emit: Emit) -> None:
        """Tell of every alarm that was not told yet, by each way."""
        assert self.watch is not None
        for alarm in self.watch.alarms:
            states = self.told.setdefault(alarm.id, {})
            for alert in alerts:
                key = f"{hashed(str(alert)):013x}"
                failed = states.get(key, 0)
                if failed < 0 or failed >= GIVEN_UP:
                    continue
                reason = alert.tell(told(alarm, rows_of(alarm, self.source, self.watch)))
                states[key] = -1 if reason is None else failed + 1
                self._save(self.read)
                if reason is not None:
                    ending = "; it is given up" if failed + 1 == GIVEN_UP else ""
                    emit(
                        Noted(
                            "warning",
                            "V166",
                            f"the {alert.kind} could not be told of {alarm.feature}: {reason}{ending}",
                        )
                    )

    def result(self, seconds: float) -> Watched:
        """How it stands."""
        if self.watch is None:
            left = self.wanted.first - len(self.waiting)
            return Watched(
                self.wanted.target, self.reference, len(self.waiting), self.wanted.alpha, (), {}, (), left, seconds
            )
        rows = {alarm.id: rows_of(alarm, self.source, self.watch) for alarm in self.watch.alarms}
        return Watched(
            self.wanted.target, self.reference, self.watch.requests, self.wanted.alpha, tuple(self.watch.alarms), rows,
            tuple(self.watch.table()), 0, seconds,
        )  # fmt: skip

    def _counts(self, seen: Seen) -> bool:
        if self.began and (seen.time is None or seen.time < self.began):
            return False
        return self.wanted.model is None or seen.model is None or seen.model == self.wanted.model

    def _take(self, part: Sequence[Seen]) -> None:
        if self.watch is not None:
            self.watch.take(part)
            return
        self.waiting.extend(part)
        if len(self.waiting) >= self.wanted.first:
            self.watch = Watch.of_beginning(self.waiting[: self.wanted.first], self.wanted.alpha)
            later, self.waiting = self.waiting[self.wanted.first :], []
            self.watch.take(later)

    def _save(self, read: Mapping[str, list[Any]]) -> None:
        """Before there is a watch nothing is saved: a restart reads the beginning again."""
        if self.state is None or self.watch is None:
            return
        if not (self.state / PLAN).exists():
            atomic.write_json(self.state / PLAN, self.watch.plan.json())
        body = {"wanted": _asked(self.wanted), "read": dict(read), "watch": self.watch.json(), "told": self.told}
        atomic.write_text(self.state / STATE, json.dumps(body, ensure_ascii=False, allow_nan=True))


def watch(wanted: Wanted, *, alerts: Sequence[str] = (), state: Path | None = None, emit: Emit) -> Watched:
    """Look once. With `state` it goes on where it stood there. Raises InputError V130, V160 to V165."""
    began = time.monotonic()
    ways = [parse(text) for text in alerts]
    with _open(wanted, state, emit) as reader:
        emit(Stage("watch", wanted.target))
        reader.step()
        if reader.watch is not None:
            reader.alert(ways, emit)
        return reader.result(round(time.monotonic() - began, 3))


def follow(
    wanted: Wanted,
    *,
    alerts: Sequence[str],
    state: Path | None,
    every: float,
    emit: Emit,
    again: Callable[[], bool] = lambda: True,
) -> Iterator[Watched]:
    """Look every so many seconds while `again` says so; yields the state whenever an alarm is new. Raises InputError as `watch`."""
    ways = [parse(text) for text in alerts]
    with _open(wanted, state or usual_state(wanted.target), emit) as reader:
        emit(Stage("watch", wanted.target))
        known = len(reader.watch.alarms) if reader.watch is not None else 0
        began = time.monotonic()
        while True:
            reader.step()
            if reader.watch is not None:
                reader.alert(ways, emit)
                if len(reader.watch.alarms) > known:
                    known = len(reader.watch.alarms)
                    yield reader.result(round(time.monotonic() - began, 3))
            if not again():
                return
            time.sleep(every)


def usual_state(target: str) -> Path:
    """Where a daemon keeps its state unless it is told."""
    path = _place(target).path
    return path / "watch" if path.is_dir() else path.with_name(f"{path.name}.watch")


def told(alarm: Alarm, rows: Sequence[Shown]) -> dict[str, Any]:
    """An alarm as alerts and JSON tell it: with its rows' texts."""
    return alarm.json() | {"rows": [asdict(row) for row in rows]}


def rows_of(alarm: Alarm, source: Source, watch: Watch) -> tuple[Shown, ...]:
    """The rows that moved most, read again: what was removed from a log since is not shown."""
    feature = next(each for each in watch.plan.features if each.name == alarm.feature)
    shown = []
    for row in alarm.rows:
        seen = source.again(Seen(row.id, row.file, row.at))
        value = value_text(feature, row.value)
        prompt, answer = (None, None) if seen is None else (seen.prompt, seen.answer)
        shown.append(Shown(row.id, row.file, value, _cut(prompt), _cut(answer)))
    return tuple(shown)


@contextmanager
def _open(wanted: Wanted, state: Path | None, emit: Emit) -> Iterator[Reader]:
    source = replace(_place(wanted.target), columns=columns_of(wanted.maps))
    if source.ours and wanted.maps:
        raise InputError(Problem("V161", "a request log needs no --map", file=wanted.target, fix="leave it out"))
    _readable(source, wanted)
    own = Path(wanted.target)
    reference = wanted.reference or (wanted.target if own.is_dir() and is_run(own) else None)
    name = reference or f"its first {wanted.first:,} requests"
    reader = Reader(wanted, source, name, _time(wanted.since), state)
    with _alone(state):
        kept = _kept(state, wanted)
        if kept is not None:
            reader.watch, reader.read, reader.told = kept
        elif reference is not None:
            reader.watch = _from_rows(reference, wanted.alpha, emit)
        yield reader


def _place(target: str) -> Source:
    path = Path(target).expanduser()
    if (path / LOG / SECRET).is_file():
        return Source(path / LOG)
    if path.is_file() or (path / SECRET).is_file():
        return Source(path)
    what = "this is a run, and holds no requests" if path.is_dir() and is_run(path) else "here are no requests"
    fix = (
        "name the folder of sartor serve --log, or a JSONL file; a run is what they are compared with: --reference RUN"
    )
    raise InputError(Problem("V163", what, file=target, fix=fix))


def _readable(source: Source, wanted: Wanted) -> None:
    """Whether the first line says something. Raises InputError V161 without texts, V164 without a time where that is asked for."""
    first = next((seen for seen, _, _ in source.read({}) if seen is not None), None)
    if first is None:
        return
    if not source.ours and first.prompt is None and first.answer is None:
        fix = "say which columns they are: --map prompt=question --map answer=output"
        raise InputError(
            Problem("V161", "its first line has neither prompt nor answer", file=wanted.target, line=1, fix=fix)
        )
    if wanted.since is not None and first.time is None:
        fix = "say which column it is, --map time=created, or leave out --since"
        raise InputError(Problem("V164", "these requests have no time", file=wanted.target, fix=fix))


def _from_rows(reference: str, alpha: float, emit: Emit) -> Watch:
    """From the rows a run learnt of and, where it has them, its own answers. Answers of data alone are not what a model would say."""
    with opened(reference, emit) as held:
        part = held.held.splits.part
        places = np.flatnonzero((part == 0) | (part == 1))
        if len(places) < 40:
            fix = "a run or a data file with more rows, or none: then the first requests are what is usual"
            raise InputError(
                Problem("V164", f"{len(places)} rows are too few to compare with", file=reference, fix=fix)
            )
        lot = np.random.default_rng(0).permutation(places)[:MOST_REFERENCE]
        rows = [_of_row(held.held.dataset[int(place)]) for place in lot]
    middle = len(rows) // 2
    compare = [replace(seen, answer=None) for seen in rows[middle:]]
    return Watch.of_reference(rows[:middle], compare, _own_answers(Path(reference)), alpha)


def _of_row(row: Row) -> Seen:
    asked = row.prompt_text()
    if isinstance(row, Example):
        asked = "\n".join(message.content for message in row.prompt() if message.role != "system")
    return Seen(row.id or str(row.origin), prompt=asked, answer=row.answer_text() or None)


def _own_answers(run: Path) -> list[Seen]:
    path = run / "predictions" / "tuned.jsonl"
    if not path.is_file():
        return []
    source = Source(path, {"answer": "prediction", "label": "-", "score": "-", "prompt": "-", "seconds": "-"})
    return [seen for seen, _, _ in source.read({}) if seen is not None and seen.answer is not None]


def _kept(state: Path | None, wanted: Wanted) -> tuple[Watch, dict[str, list[Any]], dict[str, dict[str, int]]] | None:
    """What a watch has saved. Raises RunError V165 for another one's, or one that is damaged."""
    if state is None or not (state / STATE).exists():
        return None
    try:
        body = json.loads((state / STATE).read_bytes())
        plan = Plan.of(json.loads((state / PLAN).read_bytes()))
        found = Watch.of(plan, body["watch"]), body["read"], body["told"]
        same = body["wanted"] == _asked(wanted)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        fix = "remove the folder; the watch then begins anew"
        raise RunError(Problem("V165", "the state of this watch is damaged", file=str(state), fix=fix)) from fault
    if not same:
        fix = "use the options of before, or another folder: --state DIR"
        raise RunError(Problem("V165", "this state belongs to a watch with other options", file=str(state), fix=fix))
    return found


def _asked(wanted: Wanted) -> dict[str, Any]:
    return asdict(wanted) | {"maps": list(wanted.maps)}


@contextmanager
def _alone(state: Path | None) -> Iterator[None]:
    """Be the only watch with this state. Raises RunError V165."""
    if state is None:
        yield
        return
    atomic.make_folder(state)
    with atomic.coded(state, verb="lock"):
        handle = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            fix = "stop it, or give another folder: --state DIR"
            raise RunError(Problem("V165", "another watch uses this state", file=str(state), fix=fix)) from fault
        yield
    finally:
        os.close(handle)


def _time(since: str | None) -> float:
    if since is None:
        return 0.0
    try:
        found = datetime.fromisoformat(since)
    except ValueError as fault:
        fix = "a day or a time, such as 2026-11-22 or 2026-11-22T08:30"
        raise InputError(Problem("V164", f'"{since}" is no time', fix=fix)) from fault
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _when(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _cut(text: str | None) -> str | None:
    return None if text is None else text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _short(text: str | None) -> str:
    return "(no longer there, or never kept)" if text is None else " ".join(text.split())[:80]
