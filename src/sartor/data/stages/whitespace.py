"""Tidies spaces: no blanks around a text or at the end of a line, no runs of blank lines, one kind of line end.

    clean: [whitespace]
    clean: [{whitespace: {inside: true}}]

Indentation is kept, because code and lists need it, unless `inside` is set.
"""

from __future__ import annotations

import re

from sartor.data.outcome import Cleaner, OnTexts, with_texts

__all__ = ["Options", "cleaner"]

ENDS = re.compile(r"\r\n?|[\u2028\u2029\x85\x0b\x0c]")
TRAILING = re.compile(r"[^\S\n]+(?=\n|\Z)")
BLANK = re.compile(r"\n{3,}")
ODD = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
RUNS = re.compile(r"[^\S\n]+")


class Options(OnTexts):
    """What counts as untidy."""

    inside: bool = False
    """Also make one blank of every run of blanks and tabs inside a line, indentation included."""


def cleaner(options: Options) -> Cleaner:
    """Changes rows; drops none."""

    def tidy(text: str) -> str:
        text = ODD.sub(" ", ENDS.sub("\n", text))
        if options.inside:
            text = RUNS.sub(" ", text).replace("\n ", "\n")
        return BLANK.sub("\n\n", TRAILING.sub("", text)).strip()

    return lambda row: with_texts(row, tidy, options.on)
