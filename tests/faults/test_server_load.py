"""R14 in small: many clients for a while, some of whom vanish, err or ask for too much, and nobody else is lost.

How fast they are answered is measured by `benchmarks/serve.py`: a test does not depend on what else a machine does.
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import threading
import time
from pathlib import Path

import httpx
import job
import pytest
import serving
from serving import Running, running

CLIENTS, WARM, SECONDS, TOKENS = 32, 15.0, 45.0, 16
LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 300, "maxLength": 400}},
}
"""An answer that cannot be over before its last token."""


class Client(threading.Thread):
    """Asks again and again until it is told to stop; each kind of request has its own expected end."""

    def __init__(self, server: Running, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._server, self._random, self._stop_asking = server, random.Random(number), stop
        self.seconds: list[tuple[float, float]] = []
        """When it asked, and how long a whole answer of equal length took."""
        self.lost: list[str] = []
        self.refused = 0
        self.odd = 0

    def run(self) -> None:
        """Ask."""
        address = f"http://127.0.0.1:{self._server.port}/v1/chat/completions"
        headers = {"authorization": f"Bearer {serving.TOKEN}", "content-type": "application/json"}
        with httpx.Client(headers=headers, timeout=60) as client:
            while not self._stop_asking.is_set():
                kind = self._random.random()
                asked = {
                    "model": "tiny",
                    "messages": [{"role": "user", "content": f"{kind:.6f}"}],
                    "max_tokens": TOKENS,
                }
                asked |= {"temperature": 1}
                began = time.monotonic()
                if kind < 0.01:
                    self.odd += 1
                    self._vanish(asked)
                elif kind < 0.02:
                    self.odd += 1
                    self._expect(client.post(address, content=b'{"model": "tiny", '), 400)
                elif kind < 0.03:
                    self.odd += 1
                    huge = {**asked, "messages": [{"role": "user", "content": "lamp " * 10_000}]}
                    self._expect(client.post(address, json=huge), 400)
                else:
                    answer = client.post(address, json=asked)
                    if answer.status_code == 429:
                        self.refused += 1
                        time.sleep(0.05)
                    elif answer.status_code != 200:
                        self.lost.append(answer.text)
                    elif answer.json()["usage"]["completion_tokens"] == TOKENS:
                        self.seconds.append((began, time.monotonic() - began))

    def _expect(self, answer: httpx.Response, status: int) -> None:
        if answer.status_code != status:
            self.lost.append(f"{answer.status_code} for {status}: {answer.text[:200]}")

    def _vanish(self, asked: dict[str, object]) -> None:
        body = json.dumps({**asked, "max_tokens": 180, "stream": True}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._server.port}\r\nauthorization: Bearer {serving.TOKEN}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=60) as line:
            line.sendall(head.encode() + body)
            line.recv(256)


@pytest.mark.slow
def test_many_clients_for_a_while(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    base = job.save_model(tmp_path / "tiny")
    with running([f"tiny={base}"], slots=CLIENTS, places=256, queue=64) as server:
        stop = threading.Event()
        clients = [Client(server, number, stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(WARM)
        warm, begun = serving.resident(), time.monotonic()
        time.sleep(SECONDS)
        grown = serving.resident() / warm - 1
        stop.set()
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        took = sorted(took for client in clients for at, took in client.seconds if at > begun)
        p50, p99 = statistics.median(took), took[int(0.99 * len(took))]
        found = {
            "answers": sum(len(client.seconds) for client in clients),
            "odd": sum(client.odd for client in clients),
            "lost": [text for client in clients for text in client.lost],
            "p50": round(p50, 3), "p99": round(p99, 3), "rss_growth": round(grown, 4),
        }  # fmt: skip
        record_property("measured", json.dumps(found))
        print(json.dumps(found))
        assert not found["lost"]
        assert found["odd"] > 0
        assert grown < 0.05
        text = server.ask("GET", "/metrics").text
        assert 'status="5' not in text

        _vanishes_fast(server)
        assert server.idle(5)


def _vanishes_fast(server: Running) -> None:
    """A slot is free soon after its client has gone."""
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "temperature": 1, "response_format": LONG}
    Client(server, 0, threading.Event())._vanish(asked)
    began = time.monotonic()
    assert server.idle(5)
    assert time.monotonic() - began <= 5


@pytest.mark.slow
def test_beyond_the_queue_of_a_busy_model(tmp_path: Path) -> None:
    """The queue is bounded by requests that wait while others are being answered, too."""
    base = job.save_model(tmp_path / "tiny")
    with running([f"tiny={base}"], slots=2, queue=4) as server:
        codes: list[int] = []

        def ask() -> None:
            body = {
                "model": "tiny",
                "messages": [{"role": "user", "content": "x"}],
                "max_tokens": 150,
                "response_format": LONG,
            }
            codes.append(server.ask("POST", "/v1/chat/completions", json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(24)]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, server.scheduler.waiting)
            time.sleep(0.002)
        assert set(codes) == {200, 429}
        assert codes.count(200) >= 6
        assert most <= 4
