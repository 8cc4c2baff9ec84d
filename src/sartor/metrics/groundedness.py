"""How much of an answer stands in a given context: "It costs 30 euros." is not grounded in "The ticket costs 20 euros."

    metrics: [groundedness]
    metrics: [{groundedness: {column: passage, share: 0.8}}]

Mean over rows of the share of sentences that are supported. A sentence is, where every number and every name of it (a word with a
capital inside a sentence; not where nouns have capitals, as in German) is in the context, and at least `share` of its other words
of content, in any form of a word (the same five first letters and at most three further ones, or cost for costs). The unsupported sentences stand in
the report with what is missing of each. An answer that says nothing has nothing unsupported, 1.

It compares words, not meanings, so that everybody can follow it. It takes a paraphrase in other words for unsupported; it does
not see a "not" too many, a name with the wrong number behind it, or "two" where the context says "2". For words of English,
German and French it knows which ones say nothing. Compare models with it; do not read a single value as a rate of hallucination.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sartor.metrics._answers import column, text
from sartor.metrics._reasons import Judged, Reasoned, one_by_one
from sartor.metrics._support import Context
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

__all__ = ["Options", "metric"]


class Options(Settings):
    """Where the context stands, and how much of a sentence has to be in it."""

    column: Annotated[str, Field(min_length=1)] = "context"
    """Column of the context; `prompt` is the prompt itself, where the context is part of it."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Least share of a sentence's words of content that the context has."""


def metric(options: Options, root: Path) -> Metric:
    """The metric. Its statistics raise InputError E110 for a row without a context."""

    def judge(outcome: Outcome) -> Judged:
        context = outcome.prompt if options.column == "prompt" else column(outcome, options.column)
        found = Context(context).check(text(outcome))
        lost = [each for each in found if not each.supported(options.share)]
        score = 1 - len(lost) / len(found) if found else 1.0
        return Judged(score, tuple((each.sentence, each.told) for each in lost))

    columns = ("sentence", "not in the context")
    return Reasoned("groundedness", one_by_one(judge), "Sentences without support", columns)
