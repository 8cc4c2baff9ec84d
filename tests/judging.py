"""Judges for tests: a server in OpenAI's form on this machine that behaves as it is told, and the same as a `Writer`."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sartor.protocols import Speaker

Mind = Callable[[str], str]
"""A question -> the whole reply."""


def part(question: str, name: str) -> str:
    """What stands between the marks of that name."""
    found = re.search(rf"<{name}-(\w+)>\n(.*?)\n</{name}-\1>", question, re.DOTALL)
    return found[2] if found else ""


def fair(question: str) -> str:
    """Knows the right answer: 5 or 1; the right one of two, or tie."""
    right = part(question, "right_answer")
    if "<answer_A" not in question:
        return scored(5 if part(question, "answer").startswith(right) else 1)
    one, other = (part(question, f"answer_{side}").startswith(right) for side in "AB")
    return preferred("tie" if one == other else "A" if one else "B")


def first(question: str) -> str:
    """Prefers what is shown first."""
    return preferred("A")


def longer(question: str) -> str:
    """Prefers the longer answer."""
    one, other = (len(part(question, f"answer_{side}")) for side in "AB")
    return preferred("tie" if one == other else "A" if one > other else "B")


def scored(score: float | None) -> str:
    """A reply with a score."""
    return json.dumps({"reason": "so it is", "score": score})


def preferred(winner: str | None) -> str:
    """A reply with a winner."""
    return json.dumps({"reason": "so it is", "winner": winner})


class Spoken:
    """Opens a `Writer` with a mind, and remembers what it was asked."""

    def __init__(self, mind: Mind) -> None:
        self.mind = mind
        self.asked: list[str] = []

    def __call__(self, speaker: Speaker) -> Spoken:
        return self

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        for place, prompt in reversed(list(enumerate(prompts))):
            self.asked.append(prompt)
            yield place, self.mind(prompt)


class Server(ThreadingHTTPServer):
    """Answers with its mind; `trouble` are replies that are given first: a status, and seconds to wait."""

    mind: Mind
    trouble: list[tuple[int, float]]
    asked: list[str]
    url: str


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        question = body["messages"][0]["content"]
        status, pause = self.server.trouble.pop(0) if self.server.trouble else (200, 0.0)
        time.sleep(pause)
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "0")
        self.end_headers()
        if status == 200:
            self.server.asked.append(question)
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            reply = {"choices": [{"message": {"content": self.server.mind(question)}}], "usage": usage}
            self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *args: object) -> None:
        """Silent."""


@contextmanager
def serving(mind: Mind) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    made = Server(("127.0.0.1", 0), _Handler)
    made.mind, made.trouble, made.asked = mind, [], []
    made.url = f"http://127.0.0.1:{made.server_address[1]}/v1"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
