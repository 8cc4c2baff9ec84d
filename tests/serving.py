"""A server in this process for tests: a real port of this machine, a real gate, tiny models."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from sartor.flow.serve import opened
from sartor.flow.serve_log import Keeper
from sartor.serve import listen
from sartor.serve.app import Api, application
from sartor.serve.gate import Gate
from sartor.serve.scheduler import Scheduler

TOKEN = "a-token-for-tests-alone"


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    port: int
    api: Api
    scheduler: Scheduler

    @property
    def client(self) -> OpenAI:
        """OpenAI's own client."""
        return OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=TOKEN, max_retries=0, timeout=60)

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """A plain request with the token."""
        headers = {"authorization": f"Bearer {TOKEN}", **given.pop("headers", {})}
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=60, **given)

    def idle(self, seconds: float = 5) -> bool:
        """Whether all answers end within so long."""
        until = time.monotonic() + seconds
        while self.scheduler.active and time.monotonic() < until:
            time.sleep(0.01)
        return not self.scheduler.active


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def running(
    models: Sequence[str | Path],
    *,
    slots: int = 4,
    places: int = 256,
    queue: int = 8,
    seconds: float = 60,
    body: int = 1 << 16,
    patience: listen.Patience | None = None,
    shadow: str | None = None,
    keeper: Keeper | None = None,
) -> Iterator[Running]:
    """Serve these models until the block is left."""
    served = opened([str(model) for model in models], lambda event: None)
    scheduler = Scheduler(served, slots=slots, places=places, queue=queue, shadow=shadow)
    router = keeper.router if keeper else None
    api = Api(
        served, scheduler, places=places, seconds=seconds, router=router, shadow=shadow, recorder=keeper
    )  # fmt: skip
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
        gate = Gate(application(api), hosts=hosts, token=TOKEN, origins=["https://allowed.example"], body=body)
        ends = listen.Ends(scheduler.shut, lambda: None, 5.0)
        server = listen.server(gate, ends, patience=patience, log_level="error")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        scheduler.start()
        thread.start()
        try:
            until = time.monotonic() + 30
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            yield Running(port, api, scheduler)
        finally:
            server.should_exit = True
            scheduler.close(5)
            thread.join(10)
            api.finish()
            if keeper is not None:
                keeper.close()
