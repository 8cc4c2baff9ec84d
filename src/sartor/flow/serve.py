"""Opens models and serves them until it is told to stop; then the answers on their way are finished."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.errors import InputError, ModelError, Problem
from sartor.events import Event, Noted, Stage
from sartor.flow.model import Model, find, load, said, shares
from sartor.flow.serve_log import Keeper, LogSettings, Test, check
from sartor.models.quantization import Quantization

if TYPE_CHECKING:
    from sartor.models.catalog import ModelFolder
    from sartor.serve.served import Served

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PLACES = 4096
"""Tokens of prompt and answer together, at most, where the model's window is larger."""
CACHE = 1 << 15
"""Places of all slots of a model together."""
SLOTS = 32
DRAIN = 9.0
"""Seconds from the signal that stops the server to its end, at most; answers on their way may end in most of them."""

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server runs."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = ""
    """Empty: one is made; None: nobody needs one."""
    slots: int | None = None
    places: int | None = None
    queue: int = 256
    seconds: float = 120.0
    body: int = 1 << 20
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    log: LogSettings | None = None
    test: Test | None = None
    shadow: str | None = None
    """Name of a model that answers everything a second time, for the log alone."""


def serve(models: Sequence[str], settings: Settings, emit: Emit, *, as_json: bool = False) -> None:
    """Serve models, each `MODEL` or `NAME=MODEL`, until SIGTERM or Ctrl-C.

    Adapters of one base share it. Raises InputError V101 to V109 before anything listens.
    """
    from sartor.serve.app import Api, application
    from sartor.serve.gate import Gate
    from sartor.serve.listen import Ends, server
    from sartor.serve.scheduler import Scheduler

    _check(settings)
    served = opened(models, emit)
    places = min([settings.places or PLACES, *(one.policy.window for one in served if one.policy.window is not None)])
    slots = settings.slots or max(1, min(SLOTS, CACHE // places))
    check([(one.name, one.policy.head is None) for one in served], settings.test, settings.shadow)
    scheduler = Scheduler(served, slots=slots, places=places, queue=settings.queue, shadow=settings.shadow)
    keeper = Keeper(settings.log, settings.test, emit)
    api = Api(
        served, scheduler, places=places, seconds=settings.seconds, router=keeper.router, shadow=settings.shadow,
        recorder=keeper,
    )  # fmt: skip
    with closing(keeper), _bound(settings.host, settings.port) as listener:
        port = listener.getsockname()[1]
        names = {settings.host, *(LOOPBACK if settings.host in LOOPBACK else ()), *settings.hosts}
        hosts = {f"{name}:{port}" for name in names} | set(settings.hosts)
        token = secrets.token_urlsafe(24) if settings.token == "" else settings.token
        gate = Gate(application(api), hosts=hosts, token=token, origins=settings.origins, body=settings.body)
        cut: list[int] = []

        def close() -> None:
            api.closing = True
            scheduler.shut()

        scheduler.start()
        emit(
            Stage("serve", f"{', '.join(one.name for one in served)}: {slots} answers at once, {places:,} tokens each")
        )
        _tell(
            settings,
            port,
            token,
            [*(one.name for one in served), *((settings.test.name,) if settings.test else ())],
            as_json=as_json,
        )
        try:
            server(gate, Ends(close, lambda: cut.append(scheduler.cut()), DRAIN)).run(sockets=[listener])
        finally:
            close()
            whole = scheduler.close(DRAIN / 10) and not sum(cut)
            api.finish()
            emit(Noted("info" if whole else "warning", "V120", "closed" if whole else "closed; answers were cut off"))


def _check(settings: Settings) -> None:
    if settings.host not in LOOPBACK and settings.token is None:
        what = f"without a token everybody who reaches {settings.host} could ask"
        raise InputError(Problem("V101", what, fix="leave --no-token out, or serve on 127.0.0.1"))


def _tell(settings: Settings, port: int, token: str | None, names: Sequence[str], *, as_json: bool) -> None:
    """The address; a token is told once, and only where nobody has given it."""
    made = token if settings.token == "" else None
    if as_json:
        sys.stdout.write(
            json.dumps({"address": f"http://{settings.host}:{port}/v1", "token": made, "models": list(names)}) + "\n"
        )
        sys.stdout.flush()
        return
    sys.stderr.write(f" http://{settings.host}:{port}/v1\n")
    if made is not None:
        sys.stderr.write(f" token: {made}\n")
    sys.stderr.write(" Ctrl-C ends it; answers on their way are finished\n")
    sys.stderr.flush()


def opened(models: Sequence[str], emit: Emit) -> list[Served]:
    """Every model once; an adapter whose base is open already is put on it. Raises InputError for names that come twice."""
    from sartor.serve.served import Served

    named = [_named(text) for text in models]
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        what = f'two models are called "{twice}"'
        raise InputError(Problem("V102", what, fix="give them names: NAME=MODEL"))
    found: list[Served] = []
    bases: dict[Path, Model] = {}
    for name, reference in named:
        folder = find(reference, Path.cwd())
        emit(Stage("load", f"{name}: {folder.path}"))
        model, adapter = _open(folder, name, bases)
        _servable(model, name)
        found.append(
            Served(
                name=name,
                policy=model.policy,
                renderer=model.renderer,
                created=int(time.time()),
                adapter=adapter,
                labels=_labels(model) if model.policy.head is not None else None,
                embed=model.embed,
            )
        )
    return _settled(found)


def _settled(served: Sequence[Served]) -> list[Served]:
    """A base that others have put adapters on is asked without any."""
    carrying = {id(one.policy) for one in served if one.adapter is not None}
    return [replace(one, plain=one.adapter is None and id(one.policy) in carrying) for one in served]


def _named(text: str) -> tuple[str, str]:
    name, equals, reference = text.partition("=")
    if equals and name and "/" not in name:
        return name, reference
    path = Path(text)
    return (path.name if path.name not in ("model", "latest") else path.resolve().parent.name) or text, text


def _open(folder: ModelFolder, name: str, bases: dict[Path, Model]) -> tuple[Model, str | None]:
    """The model, and which of its adapters is meant. The base of several adapters is opened once, where it can carry them."""
    from sartor.flow.prepare import renderer_for
    from sartor.models.load import open_adapter

    if folder.base is None:
        if folder.path not in bases:
            bases[folder.path] = load(folder.path)
        return bases[folder.path], None
    home = folder.root.path
    if home not in bases and Quantization.of(folder) is None:
        bases[home] = load(home)
    if home in bases:
        try:
            open_adapter(bases[home].policy, folder, name=name)
        except ModelError as error:
            if error.problems[0].code != "M124":
                raise
        else:
            return Model(folder, bases[home].policy, renderer_for(folder)), name
    return load(folder.path), None


def _servable(model: Model, name: str) -> None:
    """Raises ModelError V103 for a model that the scheduler cannot run."""
    from sartor.generate.probe import obstacle
    from sartor.models.policy import CausalPolicy

    if model.policy.head is not None:
        return
    why = None
    if not isinstance(model.policy, CausalPolicy):
        why = f"it is {model.policy.kind.replace('_', '-')}"
    else:
        why = obstacle(model.policy)
    if why is not None:
        what = f"{name} cannot join others in one pass: {why}"
        raise ModelError(Problem("V103", what, file=str(model.folder.path), fix="sartor predict asks it row by row"))


def _labels(model: Model) -> Callable[[Sequence[Any]], list[Mapping[str, Any]]]:
    def told(texts: Sequence[Any]) -> list[Mapping[str, Any]]:
        lines: list[Mapping[str, Any]] = []
        for outcome in model.outcomes(texts):
            value = said(outcome)
            key = "value" if outcome.value is not None else "labels" if isinstance(value, list) else "label"
            line: dict[str, Any] = {key: value}
            if outcome.label_scores:
                line["probabilities"] = shares(outcome)
                line["score"] = shares(outcome).get(str(value)) if key == "label" else None
            lines.append({part: told for part, told in line.items() if told is not None})
        return lines

    return told


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as fault:
        listener.close()
        what = f"{host}:{port} cannot be used: {fault.strerror}"
        raise InputError(Problem("V104", what, fix="--port with another number; 0 takes a free one")) from fault
    return listener


def token_from(name: str) -> str:
    """The token that an environment variable holds. Raises InputError V105 where it is not set or short."""
    token = os.environ.get(name, "")
    if len(token) < 16:
        what = f"the environment variable {name} holds no token of 16 characters or more"
        raise InputError(Problem("V105", what, fix=f"export {name}=$(openssl rand -hex 24)"))
    return token
