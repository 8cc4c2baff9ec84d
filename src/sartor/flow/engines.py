"""Serve a model by another server: what it is, which command that takes, and, where asked, that command's process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from sartor.errors import InputError, ModelError, Problem
from sartor.flow.model import find
from sartor.models.quantization import Quantization
from sartor.serve.engines import ENGINES, MERGE, Command, Work

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PLACES = 4096
"""Tokens of prompt and answer together, where neither the caller nor the model says less."""
FILE, BESIDE = "model.gguf", "Modelfile"
TEMPLATE = "chat_template.jinja"
LISTENS = 60.0
"""Seconds a server may take until it listens, where something is to be done then."""


def command(engine: str, name: str | None, reference: str, *, host: str, port: int, context: int | None) -> Command:
    """What serves this model by this engine. Raises InputError V140 to V144, ModelError for what is no model."""
    if host not in LOOPBACK:
        what = (
            f"{engine} has no check of Host and Origin, so Sartor lets it listen on this machine alone, not on {host}"
        )
        raise InputError(Problem("V144", what, fix="put a proxy with a token before it"))
    return ENGINES[engine](_work(engine, name, Path(reference), host, port, context))


def start(wanted: Command) -> int:
    """Run it until it ends; its exit code. Raises InputError V143 where the program is not installed."""
    if shutil.which(wanted.serve[0]) is None:
        what = f"{wanted.serve[0]} is not installed here"
        raise InputError(Problem("V143", what, fix="leave --start out and run the command where it is"))
    environment = {**os.environ, **wanted.environment}
    with subprocess.Popen(wanted.serve, env=environment) as process:  # noqa: S603 - a line of our own, and no shell
        if wanted.then and _listens(wanted.environment["OLLAMA_HOST"], process):
            subprocess.run(wanted.then, env=environment, check=False)  # noqa: S603
        return process.wait()


def _listens(address: str, process: subprocess.Popen[bytes]) -> bool:
    host, _, port = address.rpartition(":")
    until = time.monotonic() + LISTENS
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _work(engine: str, name: str | None, path: Path, host: str, port: int, context: int | None) -> Work:
    places = (path, path / FILE, path / "exports" / "gguf" / FILE)
    gguf = next((place.resolve() for place in places if place.suffix == ".gguf" and place.is_file()), None)
    called = name or (path.stem if path.suffix == ".gguf" else path.resolve().name)
    if gguf is not None and engine in ("llama.cpp", "ollama"):
        modelfile = gguf.parent / BESIDE
        return Work(
            called, None, host, port, context or PLACES, gguf=gguf, modelfile=modelfile if modelfile.is_file() else None
        )
    folder = find(str(path), Path.cwd())
    architecture = str((folder.config.get("architectures") or [""])[0])
    if "Classification" in architecture:
        what = f"{engine} is for models that write words, and this one has a head ({architecture})"
        raise ModelError(
            Problem("V140", what, file=str(folder.path), fix="sartor serve MODEL, which answers /v1/classify")
        )
    if folder.base is not None and Quantization.of(folder) is not None:
        what = f"{engine} would put this adapter on full weights, and it was trained on packed ones"
        raise ModelError(Problem("V140", what, file=str(folder.path), fix=MERGE))
    own, base = folder.path / TEMPLATE, folder.root.path / TEMPLATE
    return Work(
        called, folder.root.path, host, port, min(context or PLACES, folder.window or PLACES),
        adapter=folder.path if folder.base is not None else None,
        template=next((place for place in (own, base) if place.is_file()), None),
    )  # fmt: skip
