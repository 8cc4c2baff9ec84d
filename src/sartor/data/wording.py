"""A row as plain words: what is asked, what is answered, and when two texts count as the same text."""

from __future__ import annotations

import hashlib
import json
import unicodedata

from sartor.data.rows import Example, Judged, Message, Preference, Prompt, Ranking, Row


def asked(row: Row) -> str:
    """The prompt without its system turns, which many rows share; with them where there is nothing else."""
    match row:
        case Example():
            turns = row.prompt()
        case Preference() | Judged() | Ranking():
            turns = row.prompt
        case Prompt():
            turns = row.messages
        case _:
            return row.prompt_text()
    own = "\n".join(turn.content for turn in turns if turn.role != "system")
    return own if own.strip() else row.prompt_text()


def answered(row: Row) -> str:
    """The answer, with its tool calls."""
    match row:
        case Example():
            return _said(row.answer())
        case Preference():
            return "\n".join(_said(turn) for turn in (*row.chosen, *row.rejected))
        case Ranking():
            return "\n".join(_said(turn) for turns in row.answers for turn in turns)
        case _:
            return row.answer_text()


def similarity_text(row: Row) -> str:
    """What near-duplicates are compared by: what is asked, and what is answered."""
    return f"{asked(row)}\n{answered(row)}"


def _said(turn: Message) -> str:
    if not turn.tool_calls:
        return turn.content
    calls = (json.dumps(call, sort_keys=True, ensure_ascii=False) for call in turn.tool_calls)
    return "\n".join((turn.content, *calls))


def normal(text: str) -> str:
    """The text regardless of case, spacing and the form of its characters (NFKC).

    The form of two texts with a line break between is that of one, a space, and that of the other.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def fingerprint64(text: str) -> int:
    """64 bits that stand for the text; never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1
