"""Joins the server to the request log: what was answered is redacted, written and held against the guards of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from sartor.data.personal import Kind
from sartor.errors import InputError, Problem, SartorError
from sartor.events import Event, Noted
from sartor.monitor.guard import Guard, Watch, parse
from sartor.monitor.index import Entry
from sartor.monitor.log import RequestLog
from sartor.monitor.records import Feedback, Record, Rollback
from sartor.monitor.redaction import ALL, REGIONS, Redaction
from sartor.serve.record import Answered, Said
from sartor.serve.router import Router

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where requests are logged, and what of them."""

    folder: Path
    redact: tuple[Kind, ...] = ALL
    """None of them: texts are kept as they are."""
    regions: tuple[str, ...] = REGIONS
    share: float = 1.0
    days: int | None = None
    sync: float = 1.0


@dataclass(frozen=True, slots=True)
class Test:
    """A test between models."""

    __test__ = False

    name: str
    shares: tuple[tuple[str, float], ...]
    guards: tuple[Guard, ...] = ()


def kinds(text: str) -> tuple[Kind, ...]:
    """`email,phone` or `none`. Raises InputError V108."""
    names = tuple(name.strip() for name in text.split(","))
    if names == ("none",):
        return ()
    wrong = next((name for name in names if name not in get_args(Kind)), None)
    if wrong is not None:
        what = f'"{wrong}" is nothing that can be taken out of texts'
        raise InputError(Problem("V108", what, fix=f"some of {', '.join(get_args(Kind))}; or none alone"))
    return cast("tuple[Kind, ...]", names)


def divided(name: str, shares: str, guards: Sequence[str]) -> Test:
    """`tuned=90,base=10`. Raises InputError V107 and V132."""
    pairs = [part.partition("=") for part in shares.split(",")]
    try:
        found = tuple((arm.strip(), float(weight)) for arm, _, weight in pairs)
    except ValueError:
        found = ()
    names = [arm for arm, _ in found]
    if len(found) < 2 or len(set(names)) < len(names) or not all(arm and 0 < weight < 1e9 for arm, weight in found):
        what = f'"{shares}" does not divide requests between models'
        raise InputError(
            Problem("V107", what, fix="two or more different models with weights above 0: tuned=90,base=10")
        )
    return Test(name, found, tuple(parse(guard) for guard in guards))


def check(served: Sequence[tuple[str, bool]], test: Test | None, shadow: str | None) -> None:
    """Raises InputError V107 or V109 where a test or a shadow names what is not served. `served`: name, whether it writes words."""
    names, writers = {name for name, _ in served}, {name for name, writes in served if writes}
    if test is not None:
        wrong = next((arm for arm, _ in test.shares if arm not in writers), None)
        if wrong is not None:
            what = f'"{wrong}" is no model served here that writes words'
            raise InputError(
                Problem("V107", what, fix=f"arms of --ab are some of {', '.join(sorted(writers)) or 'none'}")
            )
        if test.name in names:
            what = f'"{test.name}" is both a model and the test'
            raise InputError(Problem("V107", what, fix="another --ab-name, or NAME=MODEL"))
    if shadow is not None and shadow not in writers:
        what = f'"{shadow}" is no model served here that writes words, so it cannot be the shadow'
        raise InputError(Problem("V109", what, fix=f"one of {', '.join(sorted(writers)) or 'none'}"))


class Keeper:
    """What the server tells of its answers. Without a folder nothing is written, and guards know what they saw themselves.

    Raises RunError V130 for a log that is damaged.
    """

    def __init__(self, settings: LogSettings | None, test: Test | None, emit: Emit) -> None:
        self._emit, self._complained, self._alone = emit, False, False
        self._lock = threading.Lock()
        self._log = None if settings is None else RequestLog(settings.folder, sync=settings.sync, days=settings.days)
        self._redaction: Redaction | None = None
        if settings is not None and self._log is not None:
            self._redaction = Redaction(settings.redact, settings.regions, self._log.secret, settings.share)
        self.router = None if test is None else Router(test.name, dict(test.shares))
        self._watch = None if test is None else Watch(test.name, test.guards)
        if self.router is not None:
            self._take_up(self.router)

    @property
    def logs(self) -> bool:
        """Whether anything is written."""
        return self._log is not None

    def answered(self, answered: Answered) -> bool:
        """Write an answer and hold it against the guards; False where it could not be written."""
        record = _record(answered)
        kept = True
        if self._log is not None and self._redaction is not None:
            record = self._redaction.record(record)
            kept = self._written(record.json())
        self._guard(_entry(record))
        return kept

    def said(self, said: Said) -> bool | None:
        """Write what somebody said; None for an id that is not in the log."""
        if self._log is None or self._redaction is None:
            return None
        try:
            self._log.index.catch_up()
            before = self._log.index.find(said.id)
        except SartorError as error:
            return self._complain(error)
        if before is None:
            return None
        feedback = Feedback(said.id, time.time(), said.thumb, said.score, said.correction, said.comment)
        if not self._written(self._redaction.feedback(feedback).json()):
            return False
        thumb, score = feedback.thumb or before.thumb, before.score if feedback.score is None else feedback.score
        self._guard(replace(before, thumb=thumb, score=score, time=feedback.time), before)
        return True

    def close(self) -> None:
        """Everything is on the disk."""
        if self._log is not None:
            self._log.close()

    def _take_up(self, router: Router) -> None:
        """Go on with a test that the log knows: what was seen counts, and an arm that was taken out stays out."""
        if self._log is None or self._watch is None:
            return
        for arm, guard, *_ in self._log.index.rollbacks(router.name):
            if arm in router.shares and router.shares[arm] and router.take_out(arm):
                what = f"{arm} was taken out of the test {router.name} by {guard} and stays out; --ab-name begins a new test"
                self._emit(Noted("warning", "V121", what))
        for entry in self._log.index.of_test(router.name):
            self._roll_back(self._watch.see(entry))

    def _guard(self, entry: Entry, before: Entry | None = None) -> None:
        if self._watch is not None:
            self._roll_back(self._watch.see(entry, before))

    def _roll_back(self, broken: Sequence[Rollback]) -> None:
        router = self.router
        for rollback in broken:
            with self._lock:
                if router is None or not router.shares.get(rollback.arm):
                    continue
                out = router.take_out(rollback.arm)
            found = f"{rollback.n:,} observations, {rollback.low:.3g} to {rollback.high:.3g}"
            if out:
                what = f"{rollback.arm} breaks {rollback.guard} ({found}) and gets no more requests of {rollback.ab}"
                self._emit(Noted("warning", "V122", what))
                if self._log is not None:
                    self._written(rollback.json())
            elif not self._alone:
                self._alone = True
                what = f"{rollback.arm} breaks {rollback.guard} ({found}) and stays: no other arm is left"
                self._emit(Noted("warning", "V123", what))

    def _written(self, line: dict[str, object]) -> bool:
        assert self._log is not None
        try:
            self._log.append(line)
        except SartorError as error:
            return self._complain(error)
        if self._complained:
            self._complained = False
            self._emit(Noted("info", "V124", "the request log takes answers again"))
        return True

    def _complain(self, error: SartorError) -> bool:
        """Say once that the log fails; answers go on."""
        if not self._complained:
            self._complained = True
            self._emit(Noted("warning", "V125", f"answers are given, but not logged: {error.problems[0].what}"))
        return False


def _record(answered: Answered) -> Record:
    asker = answered.asker
    return Record(
        id=asker.id,
        time=answered.time,
        route=asker.route,
        model=answered.model,
        arm=asker.arm,
        ab=asker.ab,
        user=asker.user,
        messages=tuple({"role": turn.role, "content": turn.content} for turn in asker.messages),
        answers=answered.texts,
        ended=answered.ended,
        prompt_tokens=answered.prompt_tokens,
        made=answered.made,
        seconds=answered.seconds,
        shadow_of=asker.shadow_of,
    )


def _entry(record: Record) -> Entry:
    return Entry(
        record.id, record.time, record.model, record.arm, record.ab, record.user, record.ended, record.prompt_tokens,
        record.made, record.seconds, record.shadow_of, record.messages is not None, "", 0,
    )  # fmt: skip
