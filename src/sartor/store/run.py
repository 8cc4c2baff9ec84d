"""The run folder: everything one run was given, did and found, and the only record of it.

    runs/<date>_<name>_<hash>/
      recipe.yaml   resolved.yaml   environment.json   events.jsonl   data/   stages/   predictions/   exports/
      report.html   model_card.md   verdict.json   .lock

Where a run stands is told by the lines of kind ``run`` in events.jsonl; there is no second place that could disagree.
A folder is a run from the moment its first line, with name and digest, is on disk.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from os import getpid
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from sartor.errors import Problem, RunError
from sartor.events import Event
from sartor.store import atomic
from sartor.store.lock import NAME, Lock, held
from sartor.store.log import Log, read

State = Literal["created", "running", "interrupted", "finished", "failed"]
"""`interrupted` is never written: it is a run that says running while no process holds its lock."""

EVENTS = "events.jsonl"
_FOLDER = re.compile(r"(\d{4}-\d{2}-\d{2})_(.+)_([0-9a-f]{8})")
_MARK = b'"event": "run"'


@dataclass(frozen=True, slots=True)
class Created(Event):
    """First line of every log. `about` holds what `history` shows: base, method, objective."""

    kind: ClassVar[str] = "run"
    state: str
    name: str
    digest: str
    about: dict[str, str]


@dataclass(frozen=True, slots=True)
class Marked(Event):
    """The run entered a state."""

    kind: ClassVar[str] = "run"
    state: str
    reason: str = ""
    pid: int = field(default_factory=getpid)
    host: str = field(default_factory=platform.node)


class Run:
    """One run folder. `create` and `into` return it locked for writing, `open` for reading only.

    A finished run comes back unlocked and can only be read. Use it as a context manager, or call `close`.
    """

    def __init__(self, folder: Path, created: Mapping[str, Any]) -> None:
        self.folder = folder
        self.name: str = created["name"]
        self.digest: str = created["digest"]
        self.about: dict[str, str] = created["about"]
        self.created: float = created["time"]
        self._lock: Lock | None = None
        self._log: Log | None = None

    @classmethod
    def create(cls, root: Path, name: str, digest: str, *, about: Mapping[str, str] | None = None) -> Run:
        """The newest run under `root` with this digest (hex, of all that decides the result), else a new folder there.

        Raises RunError F101 when another process writes in it.
        """
        for folder in reversed(_folders(root, f"*_{digest[:8]}")):
            run = cls.open(folder)
            if run.digest == digest:
                return run._enter()
        folder = root / f"{time.strftime('%Y-%m-%d')}_{plain(name)}_{digest[:8]}"
        return cls.into(folder, name, digest, about=about)

    @classmethod
    def into(cls, folder: Path, name: str, digest: str, *, about: Mapping[str, str] | None = None) -> Run:
        """The run in exactly this folder, which is new, empty, or a run already.

        A run of another digest is returned as well: compare fingerprints to say what changed. Raises RunError F101 when
        it is in use, F102 when it is finished and of another digest, F103 when the folder holds something else.
        """
        if not is_run(folder):
            _refuse_foreign(folder)
            atomic.make_folder(folder)
            writer = Lock(folder)
            if not is_run(folder):
                first = Log(folder / EVENTS)
                first.append(Created("created", plain(name), digest, dict(about or {})))
                first.close()
            writer.release()
        run = cls.open(folder)
        if run.digest != digest and run.state == "finished":
            raise run._refusal("finished, and of other inputs than yours", "choose another folder: --out DIR")
        return run._enter()

    @classmethod
    def open(cls, folder: Path) -> Run:
        """A run for reading. Raises RunError F104 when the folder is none, F106 when its log is damaged."""
        marks = _marks(folder)
        if not marks or not {"name", "digest", "about", "time"} <= marks[0].keys():
            raise RunError(
                Problem("F104", "this is not a run folder", file=str(folder), fix="see what there is: sartor runs list")
            )
        return cls(folder, marks[0])

    @property
    def state(self) -> State:
        """Where the run stands now."""
        state: State = _marks(self.folder)[-1]["state"]
        return "interrupted" if state == "running" and not held(self.folder) else state

    def lock(self) -> None:
        """Make this process the only one that writes. Raises RunError F101 when in use, F102 when finished."""
        if self._lock is None:
            writer = Lock(self.folder)
            if _marks(self.folder)[-1]["state"] == "finished":
                writer.release()
                raise self._refusal("finished", "change the recipe, or give another folder: --out DIR")
            self._lock = writer
            self._log = Log(self.folder / EVENTS)

    def close(self) -> None:
        """Sync the log and release the lock."""
        try:
            if self._log is not None:
                self._log.close()
        finally:
            self._log = None
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def mark(self, state: Literal["running", "finished", "failed"], reason: str = "") -> None:
        """Record that the run entered a state."""
        self.log(Marked(state, reason))
        self.sync()

    def log(self, event: Event) -> None:
        """Append an event to events.jsonl. Raises SartorError F130 or F131 when the disk refuses it."""
        self._writable().append(event)

    def sync(self) -> None:
        """Make the log so far survive a power cut."""
        self._writable().sync()

    def events(self) -> Iterator[dict[str, Any]]:
        """All events as JSON objects, in the order they were written. `log.unbroken` leaves out steps taken twice."""
        return read(self.folder / EVENTS)

    def write_text(self, name: str, text: str) -> None:
        """Put a text file into the folder, whole or not at all."""
        self._writable()
        atomic.write_text(self.folder / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Put a JSON file into the folder, whole or not at all."""
        self._writable()
        atomic.write_json(self.folder / name, value)

    def read_json(self, name: str) -> Any:
        """A JSON file of the folder; None when it is not there. Raises RunError F106 when it is damaged."""
        path = self.folder / name
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as fault:
            raise RunError(
                Problem("F106", f"{name} is damaged: {fault}", file=str(path), fix="restore the file from a copy")
            ) from fault

    def stage(self, index: int, name: str) -> Path:
        """The folder of one training stage."""
        return self.folder / "stages" / f"{index}-{name}"

    def _enter(self) -> Run:
        if self.state != "finished":
            self.lock()
        return self

    def _writable(self) -> Log:
        if self._log is None:
            raise ValueError(f"{self.folder} is open for reading only; call lock() first")
        return self._log

    def _refusal(self, what: str, fix: str) -> RunError:
        return RunError(Problem("F102", f"this run is {what}; it is not overwritten", file=str(self.folder), fix=fix))


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the history. What a run has not reached yet is None."""

    folder: str
    name: str
    date: str
    state: str
    base: str | None
    method: str | None
    objective: str | None
    verdict: Literal["passed", "failed"] | None
    metric: str | None
    """The metric of the first gate, or the first one measured."""
    value: float | None
    """The tuned model's score in it."""
    seconds: float
    """Time spent, summed over all sessions."""

    def json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def summarise(folder: Path) -> RunSummary:
    """The summary of one run. A damaged one is said to be so, in `state`. Raises RunError F104 when it is no run."""
    run = Run.open(folder)
    try:
        verdict = run.read_json("verdict.json")
    except RunError:
        verdict, state = None, "damaged"
    else:
        state = run.state
    metric, value = _headline(verdict) if isinstance(verdict, dict) else (None, None)
    passed = verdict.get("pass") if isinstance(verdict, dict) else None
    return RunSummary(
        folder=str(folder),
        name=run.name,
        date=_date(run),
        state=state,
        base=run.about.get("base"),
        method=run.about.get("method"),
        objective=run.about.get("objective"),
        verdict=None if passed is None else "passed" if passed else "failed",
        metric=metric,
        value=value,
        seconds=_seconds(folder),
    )


def history(root: Path) -> list[RunSummary]:
    """All runs directly under `root`, oldest first."""
    return [summarise(folder) for folder in _folders(root, "*")]


def find(reference: str, root: Path) -> Run:
    """The run a user means: a folder, `latest`, or the beginning of a folder's name, of a run's name or of its hash.

    Raises RunError F104 when there is none, F105 when there are several.
    """
    path = Path(reference)
    if is_run(path):
        return Run.open(path)
    if path.name == "latest":
        root = path.parent if len(path.parts) > 1 else root
        runs = _folders(root, "*")
        if not runs:
            raise RunError(Problem("F104", "there are no runs here yet", file=str(root), fix="sartor run recipe.yaml"))
        return Run.open(runs[-1])
    if path.is_dir():
        return Run.open(path)
    if len(path.parts) > 1:
        root = path.parent
    meant = [folder for folder in _folders(root, "*") if _means(path.name, folder)]
    if not meant:
        raise RunError(
            Problem("F104", f'there is no run "{reference}"', file=str(root), fix="see what there is: sartor runs list")
        )
    if len(meant) > 1:
        names = ", ".join(folder.name for folder in reversed(meant[-5:]))
        raise RunError(
            Problem("F105", f'"{reference}" could be any of {len(meant)} runs', file=str(root), excerpt=names)
        )
    return Run.open(meant[0])


def is_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`."""
    with atomic.coded(folder, verb="read"):
        try:
            with open(folder / EVENTS, "rb") as file:
                first = file.readline(1 << 20)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return first.endswith(b"\n") and _MARK in first


def plain(name: str) -> str:
    """The name as it appears in the folder: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-._")[:64] or "run"


def _folders(root: Path, pattern: str) -> list[Path]:
    """Run folders, oldest first: by the date in the name, then by when they began."""
    runs = [Run.open(path) for path in root.glob(pattern) if is_run(path)]
    return [run.folder for run in sorted(runs, key=lambda run: (_date(run), run.created, run.folder.name))]


def _date(run: Run) -> str:
    named = _FOLDER.fullmatch(run.folder.name)
    return named[1] if named else time.strftime("%Y-%m-%d", time.localtime(run.created))


def _means(reference: str, folder: Path) -> bool:
    named = _FOLDER.fullmatch(folder.name)
    parts = [folder.name, named[2], named[3]] if named else [folder.name]
    return any(part.startswith(reference) for part in parts)


def _refuse_foreign(folder: Path) -> None:
    """A folder with nothing but what a killed `into` may have left is as good as empty."""
    with atomic.coded(folder, verb="read"):
        if not folder.exists():
            return
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in there if name not in (NAME, EVENTS)]
    if foreign or not folder.is_dir():
        what = f"this folder is not a run and holds {len(foreign)} other files" if foreign else "this is not a folder"
        raise RunError(
            Problem(
                "F103",
                what,
                file=str(folder),
                excerpt=", ".join(foreign[:3]) or None,
                fix="choose an empty folder, or one that is not there yet: --out DIR",
            )
        )


def _marks(folder: Path) -> list[dict[str, Any]]:
    """The lines of kind `run`, found without parsing the others."""
    return [mark for _, mark in _marks_at(_content(folder))]


def _content(folder: Path) -> bytes:
    with atomic.coded(folder / EVENTS, verb="read"):
        try:
            return (folder / EVENTS).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return b""


def _marks_at(content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    at = content.find(_MARK)
    while at >= 0:
        start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
        event = _event(content[start:end]) if end >= 0 else {}
        if event.get("event") == "run" and isinstance(event.get("state"), str):
            yield start, event
        at = content.find(_MARK, at + 1)


def _seconds(folder: Path) -> float:
    content = _content(folder)
    begun = [(start, float(mark["time"])) for start, mark in _marks_at(content) if mark["state"] == "running"]
    ends = [*(start for start, _ in begun), content.rfind(b"\n") + 1][1:]
    spent = 0.0
    for (_, since), end in zip(begun, ends, strict=True):
        last = _event(content[content.rfind(b"\n", 0, end - 1) + 1 : end])
        spent += max(0.0, float(last.get("time", since)) - since)
    return round(spent, 3)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _headline(verdict: Mapping[str, Any]) -> tuple[str | None, float | None]:
    gates, scores = verdict.get("gates") or [], (verdict.get("scores") or {}).get("tuned") or {}
    metric = gates[0]["metric"] if gates else next(iter(scores), None)
    score = scores.get(metric)
    return metric, score.get("value") if isinstance(score, dict) else score
