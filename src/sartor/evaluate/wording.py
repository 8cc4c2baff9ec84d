"""Where two texts differ, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

WORD = re.compile(r"\s+|\w+|[^\w\s]")
LONGEST = 1500
"""Words up to which texts are compared; longer ones are shown as they are."""


def marked(text: str, other: str) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether `other` lacks it there; put together they are the text."""
    own, known = WORD.findall(text), WORD.findall(other)
    if len(own) > LONGEST or len(known) > LONGEST:
        return [(text, False)]
    pieces = [
        ("".join(own[start:end]), kind != "equal")
        for kind, start, end, _, _ in SequenceMatcher(None, own, known, autojunk=False).get_opcodes()
        if end > start
    ]
    return pieces or [(text, False)]
