"""How texts are cut into words and normalised before they are compared."""

from __future__ import annotations

import re
import string
import unicodedata
from itertools import groupby

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ALONE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Kana and Han are written without spaces: each character is a word."""


def _of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def words(text: str) -> list[str]:
    """Lower-case runs of letters, marks and digits of any script; "Café No.5" gives café, no, 5."""
    found: list[str] = []
    for belongs, run in groupby(text.lower(), _of_word):
        if belongs:
            found.extend(_ALONE.sub(r" \g<0> ", "".join(run)).split())
    return found


def normalised(text: str) -> str:
    """Lower case, no punctuation, no English articles, single spaces (SQuAD, Rajpurkar et al. 2016).

    A text of which nothing would be left, such as "+", stays as it is.
    """
    kept = "".join(c for c in text.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    return " ".join(_ARTICLES.sub(" ", kept).split()) or text.strip().lower()


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """Every run of n words, in order."""
    found = words(text)
    return [tuple(found[start : start + n]) for start in range(len(found) - n + 1)]
