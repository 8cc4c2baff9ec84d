"""Leaves out rows that are shorter or longer than they should be.

    clean: [length]
    clean: [{length: {unit: words, prompt_min: 3, answer_max: 400}}]

Without options it leaves out rows with a blank prompt or answer. Raw text counts as prompt. Of a preference, both answers
must be within the bounds of an answer. The bounds are for single odd rows: whether a row fits the model is counted in
tokens, by `data.max_tokens` and `data.too_long`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sartor.data.outcome import Cleaner, Drop, Outcome
from sartor.data.rows import Preference, Prompt, Ranking, Row, Text
from sartor.data.similarity import WORD
from sartor.data.wording import answered, asked
from sartor.options import Options as Settings
from sartor.recipe.schema import Rule

__all__ = ["Options", "cleaner"]

Bound = Annotated[int, Field(ge=0)]


class Options(Settings):
    """The bounds, each of which still belongs to what is kept."""

    unit: Literal["characters", "words"] = "characters"
    """What is counted; in scripts without spaces a character is a word."""
    prompt_min: Bound = 1
    """Shortest prompt, without system turns; also shortest raw text."""
    prompt_max: Bound | None = None
    """Longest prompt, without system turns; also longest raw text."""
    answer_min: Bound = 1
    """Shortest answer."""
    answer_max: Bound | None = None
    """Longest answer."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for what, least, most in (
            ("prompt", self.prompt_min, self.prompt_max),
            ("answer", self.answer_min, self.answer_max),
        ):
            if most is not None and most < least:
                raise Rule(f"{what}_max {most} is below {what}_min {least}: no row would be left", f"{what}_max")
        return self


def cleaner(options: Options) -> Cleaner:
    """Drops rows; changes none."""

    def count(text: str) -> int:
        return len(text.strip()) if options.unit == "characters" else len(WORD.findall(text))

    def fault(what: str, text: str, least: int, most: int | None) -> str | None:
        size = count(text)
        if size < least:
            return f"the {what} has fewer than {least:,} {options.unit}"
        if most is not None and size > most:
            return f"the {what} has more than {most:,} {options.unit}"
        return None

    def judge(row: Row) -> Outcome:
        reason = fault("prompt", asked(row), options.prompt_min, options.prompt_max)
        for text in _answers(row):
            reason = reason or fault("answer", text, options.answer_min, options.answer_max)
        return row if reason is None else Drop(reason)

    return judge


def _answers(row: Row) -> tuple[str, ...]:
    """What is answered; an answer that is a tool call counts by its calls."""
    match row:
        case Text() | Prompt():
            return ()
        case Preference():
            return tuple("\n".join(turn.content for turn in turns) for turns in (row.chosen, row.rejected))
        case Ranking():
            return tuple("\n".join(turn.content for turn in turns) for turns in row.answers)
    return (answered(row),)
