"""What of a request the log may hold: users by a keyed hash, personal data and keys as placeholders (those of the stage `redact`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sartor.data.masks import DIGITS, masked
from sartor.data.personal import Kind, finder
from sartor.data.stages.redact import Options
from sartor.monitor.records import Feedback, Record

ALL: tuple[Kind, ...] = Options().what
"""What is taken out where nobody says otherwise."""
REGIONS = Options().regions


class Redaction:
    """One policy with the secret of one log.

    Args:
        what: kinds of personal data; none: texts are kept as they are.
        regions: countries whose phone numbers are found without their country code.
        secret: key of the hashes, so that nobody can test a guess.
        share: of requests whose texts are kept at all, 0 to 1; drawn by their id.
    """

    def __init__(self, what: Sequence[Kind], regions: Sequence[str], secret: bytes, share: float = 1.0) -> None:
        self._find = finder(tuple(what), tuple(regions)) if what else None
        self._secret, self._share = secret, share

    def user(self, key: str) -> str:
        """What stands for a user."""
        return user_hash(key, self._secret)

    def record(self, record: Record) -> Record:
        """As it may be written. `record.user` is what the client sent."""
        user = None if record.user is None else self.user(record.user)
        if record.messages is None or record.answers is None or place(record.id, "texts") >= self._share:
            return replace(record, user=user, messages=None, answers=None)
        messages = tuple(_turn(turn, self._text(turn["content"])) for turn in record.messages)
        return replace(record, user=user, messages=messages, answers=tuple(map(self._text, record.answers)))

    def feedback(self, feedback: Feedback) -> Feedback:
        """As it may be written."""
        texts = {"correction": feedback.correction, "comment": feedback.comment}
        return replace(feedback, **{name: None if text is None else self._text(text) for name, text in texts.items()})  # type: ignore[arg-type]

    def _text(self, text: str) -> str:
        return text if self._find is None else masked(text, self._find(text), self._secret, DIGITS)


def user_hash(key: str, secret: bytes) -> str:
    """Keyed BLAKE2b, 128 bits."""
    return hashlib.blake2b(key.encode(errors="backslashreplace"), key=secret, digest_size=16).hexdigest()


def place(key: str, purpose: str) -> float:
    """A number in [0, 1) that is the same for a key and a purpose at any time."""
    digest = hashlib.blake2b(f"{purpose}\0{key}".encode(errors="backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _turn(turn: Mapping[str, str], content: str) -> dict[str, str]:
    return {**turn, "content": content}
