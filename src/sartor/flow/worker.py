"""A rank other than 0: it waits for what rank 0 has prepared, takes part in training, and goes."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sartor.events import Event, Noted
from sartor.flow.processes import tie
from sartor.flow.signals import Stop

if TYPE_CHECKING:
    from sartor.engine.parallel.heart import Heart
    from sartor.engine.parallel.meeting import Meeting
    from sartor.flow.prepare import Emit

PAUSE = 0.2
QUIET = 3.0
"""Seconds of waiting before it is said."""


def work(environ: Mapping[str, str], emit: Emit) -> int:
    """Be the rank that `environ` names until training is over; returns the exit code. Events are rank 0's to show.

    Raises SartorError as `flow.run.run` does, P110 for a rank that is lost, P112 where rank 0 is not reached.
    """
    tie(environ)
    with Stop() as stop:
        from sartor.engine.parallel.heart import Heart, limit
        from sartor.engine.parallel.meeting import Meeting

        patience = limit(environ)
        meeting = Meeting.reach(environ)
        meeting.arrive()
        with meeting.stay(), Heart(meeting, patience) as heart:
            heart.listen()
            call = _await(meeting, heart, emit)
            if "end" in call:
                return int(call["end"])
            stop.training = True
            _train(call, heart, environ, stop)
    return 0


def _await(meeting: Meeting, heart: Heart, emit: Emit) -> dict[str, Any]:
    """What rank 0 calls for, however long it prepares, as long as its heart beats."""
    began, said = time.monotonic(), False
    while not meeting.has("call"):
        heart.check()
        if not said and time.monotonic() - began > QUIET:
            who = f"rank {meeting.rank} of {meeting.size} on {platform.node()}"
            emit(Noted("info", "P120", f"{who} waits for rank 0 to prepare the data and to measure the base"))
            said = True
        time.sleep(PAUSE)
    call: dict[str, Any] = meeting.told("call")
    return call


def _train(call: Mapping[str, Any], heart: Heart, environ: Mapping[str, str], stop: Stop) -> None:
    from sartor.flow.handover import take_over
    from sartor.flow.launch import share
    from sartor.flow.team import together
    from sartor.flow.train import attach, open_base, train

    handed = take_over(call, threads=share(call["settings"]["threads"], environ))
    with together(heart, environ, device=handed.settings.device, threads=call["settings"]["threads"]) as team:
        policy = open_base(handed, _unheard)
        attach(handed, policy)
        train(
            handed,
            policy,
            handed.stage,
            team.hear(_unheard),
            tools=handed.tools,
            owner=handed.owner,
            stop_asked=stop.asked,
            world=team.world,
        )


def _unheard(event: Event) -> None:
    """Rank 0 shows and logs what happens."""
