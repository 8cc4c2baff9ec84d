"""Text from any server that speaks OpenAI's chat protocol. The only file that talks to one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sartor.errors import ModelError, Problem
from sartor.protocols import Reply

if TYPE_CHECKING:
    import httpx

TOGETHER = 4
"""Questions on their way at a time."""
TRIES = 4
TIMEOUT = 120.0
"""Seconds without an answer after which a try is given up."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries at most, whatever the server asks for."""
AGAIN = (408, 409, 429, 500, 502, 503, 504)
"""Replies after which it is worth to ask again."""
UNKNOWN_FORM = (400, 404, 415, 422, 501)
"""Replies of a server that does not know `response_format`."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RemoteWriter:
    """Implements `Writer` on an endpoint. One question is one chat with a single user turn.

    Args:
        endpoint: base URL, e.g. http://127.0.0.1:8000/v1; `/chat/completions` is put behind it.
        model: the model's name there.
        key: name of the environment variable that holds the key; None sends none. The key itself is never written anywhere.
        form: JSON schema that every answer is to follow, as text. A server that does not know `response_format` is asked
            without it from then on.
        pause: seconds before the second try; doubled before each further one.

    Raises:
        ModelError: M170 where the key is not set, or would travel unprotected.
    """

    def __init__(
        self, endpoint: str, model: str, key: str | None = None, *, form: str | None = None, pause: float = 1.0
    ) -> None:
        self._url, self._model, self._pause = f"{endpoint.rstrip('/')}/chat/completions", model, pause
        self._form: dict[str, Any] = {}
        if form is not None:
            told = {"name": "reply", "strict": True, "schema": json.loads(form)}
            self._form = {"response_format": {"type": "json_schema", "json_schema": told}}
        self._headers = {} if key is None else {"Authorization": f"Bearer {_secret(endpoint, key)}"}

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        """Yields (index of the prompt, its answer), in the order they come. Raises ModelError M171."""
        for reply in self.replies(prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed):
            yield reply.place, reply.text

    def replies(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int) -> Iterator[Reply]:
        """The same with the tokens that each cost. Raises ModelError M171 once all that is on its way has come."""
        import httpx

        fixed = {"model": self._model, "max_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        waiting = iter(enumerate(prompts))
        asked: dict[Future[tuple[str, tuple[int, int] | None]], int] = {}
        with httpx.Client(headers=self._headers, timeout=TIMEOUT) as client, ThreadPoolExecutor(TOGETHER) as pool:
            try:
                fault: ModelError | None = None
                while True:
                    for place, prompt in waiting if fault is None else ():
                        turns = [{"role": "user", "content": prompt}]
                        asked[pool.submit(self._answer, client, {**fixed, "messages": turns})] = place
                        if len(asked) >= TOGETHER:
                            break
                    if not asked and fault is not None:
                        raise fault
                    if not asked:
                        return
                    for future in wait(asked, return_when=FIRST_COMPLETED).done:
                        place = asked.pop(future)
                        try:
                            answer = future.result()
                        except ModelError as error:
                            fault = fault or error
                        else:
                            yield Reply(place, *answer)
            finally:
                for future in asked:
                    future.cancel()

    def _answer(self, client: httpx.Client, body: Mapping[str, Any]) -> tuple[str, tuple[int, int] | None]:
        import httpx

        pause, fault = self._pause, ""
        for number in range(TRIES):
            if number:
                time.sleep(min(pause, LONGEST_PAUSE))
                pause *= 2
            form = self._form
            try:
                reply = client.post(self._url, json={**body, **form})
                if form and reply.status_code in UNKNOWN_FORM:
                    self._form = {}
                    reply = client.post(self._url, json=dict(body))
            except httpx.HTTPError as error:
                fault = f"{type(error).__name__}: {error}"
                continue
            if reply.status_code == 200:
                return self._text(reply), _tokens(reply)
            fault = f"status {reply.status_code}: {reply.text[:200]}"
            if reply.status_code not in AGAIN:
                break
            pause = max(pause, _wanted(reply.headers.get("retry-after", "")))
        raise self._fault(f"no answer ({fault.strip()})")

    def _text(self, reply: httpx.Response) -> str:
        try:
            text = reply.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise self._fault(f"the reply is not of OpenAI's chat form: {reply.text[:200]}") from None
        if not isinstance(text, str):
            raise self._fault(f"the reply holds no text: {reply.text[:200]}")
        return text

    def _fault(self, what: str) -> ModelError:
        fix = "check the endpoint, the model's name and the key, then run the same command again"
        return ModelError(Problem("M171", what, file=self._url, fix=fix))


def _secret(endpoint: str, key: str) -> str:
    """The key in the environment variable `key`. Raises ModelError M170."""
    value = os.environ.get(key, "")
    if not value:
        what = f"the environment variable {key}, which should hold the endpoint's key, is not set"
        raise ModelError(Problem("M170", what, file=endpoint, fix=f"export {key}=..."))
    parts = urlsplit(endpoint)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        what = "the key would travel without encryption"
        raise ModelError(Problem("M170", what, file=endpoint, fix="use https, or leave the key out"))
    return value


def _tokens(reply: httpx.Response) -> tuple[int, int] | None:
    """What a reply in OpenAI's form says it cost."""
    usage = reply.json().get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (read, written) if isinstance(read, int) and isinstance(written, int) else None


def _wanted(header: str) -> float:
    """Seconds that a server asks to wait."""
    return float(header) if header.isdecimal() else 0.0
