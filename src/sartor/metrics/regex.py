"""Share of answers in which a pattern of yours is found: `^[A-Z]{2}-\\d+$` counts 1 for "AB-12" and 0 for "It is AB-12".

    metrics: [{regex: {pattern: "^[A-Z]{2}-[0-9]+$"}}]
    metrics: [{regex: {pattern: "as an ai", ignore_case: true, wanted: false}}]

Searched for anywhere in the answer, surrounding space aside, unless `^` and `$` say otherwise. The language of patterns is that
of Python's `re`, read by the library regex, which gives up on a pattern that runs away (E107) instead of hanging.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from sartor.errors import InputError, Problem
from sartor.metrics._answers import text
from sartor.metrics._mean import Mean
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome
from sartor.recipe.schema import Rule

__all__ = ["Options", "metric"]

SECONDS = 2.0
"""Longest search in one answer."""


class Options(Settings):
    """The pattern, and what it means."""

    pattern: Annotated[str, Field(min_length=1, examples=["^[A-Z]{2}-[0-9]+$"])]
    """A regular expression."""
    wanted: bool = True
    """true: answers with it are right; false: answers without it are."""
    ignore_case: bool = False
    """Whether A is a."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        import regex

        try:
            regex.compile(self.pattern)
        except regex.error as error:
            raise Rule(f"this is no regular expression: {error}", "pattern") from None
        return self


def metric(options: Options, root: Path) -> Metric:
    """The metric."""
    import regex

    pattern = regex.compile(options.pattern, regex.IGNORECASE if options.ignore_case else 0)

    def score(outcome: Outcome) -> float:
        try:
            found = pattern.search(text(outcome), timeout=SECONDS) is not None
        except TimeoutError as error:
            what = f"the pattern {options.pattern} takes more than {SECONDS:g} s on the answer to row {outcome.id}"
            fix = "a pattern without repetitions inside repetitions"
            raise InputError(Problem("E107", what, fix=fix)) from error
        return float(found == options.wanted)

    return Mean("regex", score)
