"""How answers are written: the objects of OpenAI's API, whole or as pieces of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from sartor.serve.served import Piece, Token


class Answer:
    """One answer put together from its pieces."""

    def __init__(self) -> None:
        self.text, self.made = "", 0
        self.tokens: list[Token] = []
        self.ended: str | None = None

    def add(self, piece: Piece) -> None:
        """The next piece."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.ended, self.made = piece.ended, piece.made


class Form:
    """How one route writes its answers."""

    prefix, whole, part = "", "", ""

    def identity(self) -> str:
        """Of a new answer."""
        return f"{self.prefix}-{uuid.uuid4().hex}"

    def head(self, id: str, model: str, *, stream: bool) -> dict[str, Any]:
        """What every object of an answer begins with."""
        return {
            "id": id,
            "object": self.part if stream else self.whole,
            "created": int(time.time()),
            "model": model,
        }

    def choice(self, index: int, answer: Answer) -> dict[str, Any]:
        """A whole answer."""
        raise NotImplementedError

    def opening(self, sample: int) -> list[dict[str, Any]]:
        """What a stream begins with."""
        return []

    def changes(self, piece: Piece) -> list[dict[str, Any]]:
        """A piece of a stream."""
        raise NotImplementedError


class ChatForm(Form):
    """Of /v1/chat/completions."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, answer: Answer) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        return {
            "index": index,
            "message": message,
            "logprobs": _chat_logp(answer.tokens),
            "finish_reason": answer.ended,
        }

    def opening(self, sample: int) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": ""}
        return [{"index": sample, "delta": delta, "logprobs": None, "finish_reason": None}]

    def changes(self, piece: Piece) -> list[dict[str, Any]]:
        same = {"index": piece.sample, "logprobs": _chat_logp(piece.tokens)}
        found: list[dict[str, Any]] = []
        if piece.text or piece.tokens:
            found.append({**same, "delta": {"content": piece.text}, "finish_reason": None})
        if piece.ended is not None:
            found.append({"index": piece.sample, "delta": {}, "logprobs": None, "finish_reason": piece.ended})
        return found


class TextForm(Form):
    """Of /v1/completions."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, answer: Answer) -> dict[str, Any]:
        return {
            "index": index,
            "text": answer.text,
            "logprobs": _text_logp(answer.tokens),
            "finish_reason": answer.ended,
        }

    def changes(self, piece: Piece) -> list[dict[str, Any]]:
        logprobs = _text_logp(piece.tokens)
        return [{"index": piece.sample, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.ended}]


def event(body: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def usage(prompt: int, made: int) -> dict[str, int]:
    """Counts of tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _chat_logp(tokens: Sequence[Token]) -> dict[str, Any] | None:
    if not tokens:
        return None
    told = [
        {
            **_named(token.text, token.logp),
            "top_logprobs": [_named(text, logp) for text, logp in token.top],
        }
        for token in tokens
    ]
    return {"content": told, "refusal": None}


def _named(text: str, logp: float) -> dict[str, Any]:
    return {"token": text, "logprob": logp, "bytes": list(text.encode())}


def _text_logp(tokens: Sequence[Token]) -> dict[str, Any] | None:
    if not tokens:
        return None
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logp for token in tokens],
        "top_logprobs": [dict(token.top) for token in tokens],
        "text_offset": [0, *accumulate(len(token.text) for token in tokens[:-1])],
    }
