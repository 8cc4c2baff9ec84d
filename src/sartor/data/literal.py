"""Parts of a text that mean what they are, to the letter: code, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

CODE = re.compile(
    r"(?P<fence>^[ \t]*(?P<ticks>`{3,}|~{3,})[^\n]*\n(?:.*?\n)?[ \t]*(?P=ticks)[`~]*[ \t]*(?=\n|\Z))"
    r"|(?<!`)(?P<mark>`{1,2})(?!`)[^`\n]+?(?P=mark)(?!`)",
    re.MULTILINE | re.DOTALL,
)
"""A fenced block, or code inside a line."""

OPEN, CLOSE = "\ue000", "\ue001"
"""Characters for private use, which no text has that was written to be read; one that has them is left alone."""
SHELVED = re.compile(f"{OPEN}(\\d+){CLOSE}")


def is_json(text: str) -> bool:
    """Whether the text is one JSON object or list."""
    bare = text.strip()
    if bare[:1] + bare[-1:] not in ("{}", "[]"):
        return False
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def around_code(text: str, change: Callable[[str], str], shown: Callable[[re.Match[str]], str]) -> str:
    """The text with `change` done to all but its code, of which stays what `shown` makes of a match of `CODE`."""
    code: list[str] = []

    def shelve(found: re.Match[str]) -> str:
        code.append(shown(found))
        return f"{OPEN}{len(code) - 1}{CLOSE}"

    if OPEN in text:
        return text
    return SHELVED.sub(lambda found: code[int(found[1])], change(CODE.sub(shelve, text)))


def whole(found: re.Match[str]) -> str:
    """The code as it stands there."""
    return found[0]


def without_code(text: str) -> str:
    """The text with a blank in place of every piece of code."""
    return CODE.sub(" ", text)
