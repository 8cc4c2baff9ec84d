"""One thread owns all models: it lets requests in, gives every model its turn, and forgets those nobody waits for.

A request is a row of continuous batching (`generate.engine.Online`): it joins the next pass and leaves when it is over, so nobody waits
for a neighbour. Before each pass the thread looks for new requests, for those that have gone, and for those whose time is over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch

from sartor.errors import SartorError
from sartor.generate.engine import Engine, Online
from sartor.generate.rows import Row
from sartor.generate.sampling import Sampling, choose
from sartor.models.policy import CausalPolicy
from sartor.serve.answer import Growing
from sartor.serve.constraint import Constraint, Grammars
from sartor.serve.served import Piece, Served, Talk, Token, Wanted

TURN = 8
"""Passes of one model while another has requests."""


class Full(Exception):
    """The queue holds as many requests as it may."""


class Closing(Exception):
    """No more requests are let in."""


class Scheduler:
    """Takes requests from any thread and answers them from its own.

    Args:
        served: the models.
        slots: answers that one model writes at the same time.
        places: tokens of prompt and answer together, at most.
        queue: requests that may wait beside those that are being answered.
        shadow: a model that answers a second time what others have been asked, while nobody waits for anything else.
    """

    def __init__(
        self, served: Sequence[Served], *, slots: int, places: int, queue: int, shadow: str | None = None
    ) -> None:
        self._stations = {one.name: Station(one, slots, places) for one in served if one.policy.head is None}
        self._shadow = next((Station(one, slots, places) for one in served if one.name == shadow), None)
        self._waiting: deque[tuple[Talk, tuple[Constraint | None, ...]]] = deque()
        self._shadows: deque[tuple[Talk, tuple[Constraint | None, ...]]] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._news = threading.Condition()
        self._queue, self._number, self._closing = queue, 0, False
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)
        self.fault: BaseException | None = None
        """What has ended the thread."""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and self.fault is None

    @property
    def waiting(self) -> int:
        """Requests that no model has taken yet."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Answers that are being written."""
        return sum(station.busy for station in self._stations.values())

    def submit(self, wanted: Wanted, tell: Callable[[Piece], None]) -> Talk:
        """Ask for answers; `tell` is called from the model thread with their pieces.

        Raises Full, Closing, or InputError for a schema that cannot be followed.
        """
        station = self._stations[wanted.model]
        constraints = tuple(station.constraint(wanted.schema) for _ in range(wanted.samples))
        with self._news:
            if self._closing or not self.alive:
                raise Closing
            if len(self._waiting) >= self._queue:
                raise Full
            if len(self._waiting) + len(self._shadows) >= self._queue:
                _drop(self._shadows.popleft()[0])
            self._number += 1
            talk = Talk(wanted, tell, self._number, time.monotonic() + wanted.seconds, left=wanted.samples)
            self._waiting.append((talk, constraints))
            self._news.notify()
        return talk

    def submit_shadow(self, wanted: Wanted, tell: Callable[[Piece], None]) -> Talk:
        """Ask the shadow, for whom nobody waits: it writes while no other model does, and is the first to be dropped.

        Raises Full, Closing, or InputError for a schema that cannot be followed.
        """
        assert self._shadow is not None
        constraints = tuple(self._shadow.constraint(wanted.schema) for _ in range(wanted.samples))
        with self._news:
            if self._closing or not self.alive:
                raise Closing
            if len(self._waiting) + len(self._shadows) >= self._queue:
                raise Full
            self._number += 1
            talk = Talk(wanted, tell, self._number, time.monotonic() + wanted.seconds, left=wanted.samples)
            self._shadows.append((talk, constraints))
            self._news.notify()
        return talk

    def call(self, work: Callable[[], Any]) -> Future[Any]:
        """Let the model thread do something else between two passes, such as embedding a text. Raises Full or Closing."""
        future: Future[Any] = Future()
        with self._news:
            if self._closing or not self.alive:
                raise Closing
            if len(self._calls) >= self._queue:
                raise Full
            self._calls.append((work, future))
            self._news.notify()
        return future

    def close(self, seconds: float) -> bool:
        """Let no more requests in, and wait for those on their way; after `seconds` they are ended. True if none was cut off."""
        self.shut()
        self._thread.join(seconds)
        whole = not self.cut()
        self._thread.join(seconds)
        return whole

    def shut(self) -> None:
        """Let no more requests in."""
        with self._news:
            self._closing = True
            while self._shadows:
                _drop(self._shadows.popleft()[0])
            self._news.notify()
        if self._shadow is not None:
            self._shadow.leave()

    def cut(self) -> int:
        """End all requests that are waited for; how many there were."""
        with self._news:
            cut = [talk for talk, _ in self._waiting if not talk.gone]
            self._waiting.clear()
        for talk in cut:
            for sample in range(talk.wanted.samples):
                talk.tell(Piece(sample, "", ended="closing"))
        return len(cut) + sum(station.leave() for station in self._stations.values())

    def _work(self) -> None:
        try:
            while self._wait():
                self._do_calls()
                for station in self._stations.values():
                    station.turn(lambda station=station: self._admit(station))  # type: ignore[misc]
                if self._shadow is not None and not self._urgent:
                    self._shadow.turn(self._admit_shadows)
        except BaseException as fault:
            self.fault = fault
            self._give_up()
            raise

    @property
    def _urgent(self) -> bool:
        """Whether somebody waits for something."""
        return bool(self._waiting or self._calls or self.active)

    def _admit_shadows(self) -> bool:
        """Let the waiting requests of the shadow in; whether it may go on."""
        assert self._shadow is not None
        with self._news:
            while self._shadows and self._shadow.has_room:
                self._shadow.let_in(*self._shadows.popleft())
            return not self._urgent

    def _wait(self) -> bool:
        """Sleep until there is something to do; False once there is nothing left and no more will come."""
        with self._news:
            while not (self._urgent or self._shadows or (self._shadow is not None and self._shadow.busy)):
                if self._closing:
                    return False
                self._news.wait(1.0)
            return True

    def _do_calls(self) -> None:
        while self._calls:
            work, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except (SartorError, ValueError, RuntimeError) as error:
                    future.set_exception(error)

    def _admit(self, station: Station) -> bool:
        """Let waiting requests of a station in; whether it may go on."""
        with self._news:
            kept: deque[tuple[Talk, tuple[Constraint | None, ...]]] = deque()
            while self._waiting:
                talk, constraints = self._waiting.popleft()
                over = talk.gone or time.monotonic() > talk.deadline
                if over or (talk.wanted.model == station.name and station.has_room):
                    station.let_in(talk, constraints)
                else:
                    kept.append((talk, constraints))
            self._waiting = kept
            others = any(each.busy for each in self._stations.values() if each is not station)
            others = others or any(talk.wanted.model != station.name for talk, _ in kept)
            return not (self._calls or (others and station.passes >= TURN))

    def _give_up(self) -> None:
        with self._news:
            waiting, calls = [*self._waiting, *self._shadows], list(self._calls)
            self._waiting.clear()
            self._shadows.clear()
            self._calls.clear()
        for _, future in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(Closing())
        for talk, _ in waiting:
            for sample in range(talk.wanted.samples):
                talk.tell(Piece(sample, "", ended="fault"))
        for station in (*self._stations.values(), *((self._shadow,) if self._shadow else ())):
            station.give_up()


def _drop(talk: Talk) -> None:
    """Tell that a request of the shadow is not answered."""
    for sample in range(talk.wanted.samples):
        talk.tell(Piece(sample, "", ended="dropped"))


class Station:
    """A model with the answers it is writing. The model thread alone uses it, but for `busy`, `constraint` and `leave`."""

    def __init__(self, served: Served, slots: int, places: int) -> None:
        assert isinstance(served.policy, CausalPolicy)
        self.name, self._served, self._policy = served.name, served, served.policy
        self._slots = slots
        self._engine = Engine(served.policy, served.renderer.stop_ids, self._choose, self._heard)
        self._online = Online(self._engine, slots, places)
        self._talks: dict[int, Talk] = {}
        self._growing: dict[tuple[int, int], Growing] = {}
        self._constraints: dict[tuple[int, int], Constraint] = {}
        self._tokens: dict[tuple[int, int], list[Token]] = {}
        self._rows: dict[tuple[int, int], Row] = {}
        self._grammars: Grammars | None = None
        self._lock = threading.Lock()
        self.passes = 0
        """Since its turn began."""

    @property
    def busy(self) -> int:
        """Answers on their way."""
        return self._online.busy

    @property
    def has_room(self) -> bool:
        """Whether a further request would not wait for a slot, so that those that wait are counted where they are bounded."""
        return self.busy < self._slots

    def constraint(self, schema: str | None) -> Constraint | None:
        """For one answer. Raises InputError for a schema that cannot be followed."""
        if schema is None:
            return None
        with self._lock:
            if self._grammars is None:
                self._grammars = Grammars(self._served.renderer, self._policy.vocabulary)
        return self._grammars.constraint(schema)

    def let_in(self, talk: Talk, constraints: Sequence[Constraint | None]) -> None:
        """Seat the answers of a request; one that nobody waits for any more is over at once."""
        wanted = talk.wanted
        if talk.gone or time.monotonic() > talk.deadline:
            for sample in range(wanted.samples):
                talk.tell(Piece(sample, "", ended="gone" if talk.gone else "late"))
            return
        self._talks[talk.number] = talk
        for sample, constraint in enumerate(constraints):
            stream = np.random.default_rng([wanted.seed, 0, sample])
            key = (talk.number, sample)
            row = Row(talk.number, sample, self._prompt(wanted), wanted.most, stream)
            self._growing[key] = Growing(self._served.renderer.text, wanted.stop)
            self._rows[key] = row
            if constraint is not None:
                self._constraints[key] = constraint
            self._online.add(row)

    def turn(self, admit: Callable[[], bool]) -> None:
        """Write on at all answers for a while."""
        self.passes = 0

        def between() -> bool:
            on = admit()
            self.passes += 1
            self._drop_the_gone()
            return on

        if not between() and self._online.idle:
            return
        with self._served.on():
            for over in self._online.run(between):
                for row in over:
                    self._end(row)

    def leave(self) -> int:
        """End all answers because the server closes; how many requests were waited for."""
        cut = [talk for talk in list(self._talks.values()) if not talk.gone and not talk.cut]
        for talk in cut:
            talk.cut = True
        return len(cut)

    def give_up(self) -> None:
        """Tell everybody that nothing more comes."""
        for number, sample in list(self._rows):
            self._talks[number].tell(Piece(sample, "", ended="fault"))

    def _prompt(self, wanted: Wanted) -> np.ndarray:
        virtual = self._policy.virtual
        if virtual is None:
            return wanted.prompt
        return np.concatenate([virtual.ids(self._policy.vocabulary).numpy(), wanted.prompt])

    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
        """[N, V] -> a token for each row by its own sampling and its own constraint."""
        own = logits.float() if any(self._talks[row.index].wanted.top is not None for row in rows) else logits
        if self._constraints:
            logits = logits.float().clone()
            for line, row in zip(logits, rows, strict=True):
                if (row.index, row.sample) in self._constraints:
                    self._constraints[row.index, row.sample].rule_out(line)
        chosen = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
        kinds: dict[Sampling, list[int]] = {}
        for place, row in enumerate(rows):
            kinds.setdefault(self._talks[row.index].wanted.sampling, []).append(place)
        for sampling, places in kinds.items():
            some = torch.tensor(places, device=logits.device)
            chosen[some] = choose(logits[some], [rows[place] for place in places], sampling)
        self._note(own, chosen, rows)
        tokens: list[int] = chosen.tolist()
        for row, token in zip(rows, tokens, strict=True):
            if (row.index, row.sample) in self._constraints and token not in self._engine.stop_ids:
                self._constraints[row.index, row.sample].take(token)
        return tokens

    def _note(self, logits: torch.Tensor, chosen: torch.Tensor, rows: Sequence[Row]) -> None:
        """Keep the log-probabilities of rows that want them."""
        text = self._served.renderer.vocabulary.decode
        for place, row in enumerate(rows):
            top = self._talks[row.index].wanted.top
            if top is None:
                continue
            logp = logits[place].float().log_softmax(dim=0)
            best = logp.topk(min(top, len(logp))) if top else None
            likely = () if best is None else tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
            token = Token(
                text([int(chosen[place])]),
                float(logp[chosen[place]]),
                tuple((text([index]), value) for index, value in likely),
            )
            self._tokens.setdefault((row.index, row.sample), []).append(token)

    def _heard(self, row: Row) -> None:
        """Tell what is new of an answer, and end it where a text of `stop` has come."""
        talk, key = self._talks[row.index], (row.index, row.sample)
        growing = self._growing[key]
        if row.over:
            return
        text = growing.piece(row.answer, over=False)
        if growing.stopped:
            row.limit = len(row.ids)
        elif text:
            talk.tell(Piece(row.sample, text, tuple(self._tokens.pop(key, ())), made=len(row.ids)))

    def _end(self, row: Row) -> None:
        """Tell the rest of an answer that is over, and why it is."""
        key = (row.index, row.sample)
        talk, growing = self._talks[row.index], self._growing[key]
        rest = growing.piece(row.answer, over=True)
        late = time.monotonic() > talk.deadline
        whole = row.stopped or growing.stopped
        ended = "stop" if whole else "gone" if talk.gone else "closing" if talk.cut else "late" if late else "length"
        talk.tell(Piece(row.sample, rest, tuple(self._tokens.pop(key, ())), ended, len(row.ids)))
        for kept in (self._growing, self._constraints, self._rows, self._tokens):
            kept.pop(key, None)
        talk.left -= 1
        if not talk.left:
            del self._talks[row.index]

    def _drop_the_gone(self) -> None:
        now = time.monotonic()
        for (number, _), row in self._rows.items():
            talk = self._talks[number]
            if (talk.gone or talk.cut or now > talk.deadline) and not row.over:
                row.limit = max(1, len(row.ids))
