"""Share of answers that begin with filler instead of what was asked for: 'Sure! Here is the JSON: {"a": 1}' counts, '{"a": 1}' does not.

Filler is a stock opening in English, German or French (`_phrases.py`) that the reference does not have as well, and, where the
reference is a JSON object or list, any words before the first bracket of an answer that has one. What was found is in the report.
"""

from __future__ import annotations

from sartor.metrics._answers import right, text
from sartor.metrics._json import parse
from sartor.metrics._phrases import opening
from sartor.metrics._reasons import Judged, Reasoned, one_by_one
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


def _filler(outcome: Outcome) -> str | None:
    answer, reference = text(outcome), right(outcome)
    if answer == reference:
        return None
    found = opening(answer)
    if found is not None and opening(reference) is None:
        return found
    wanted = parse(reference)
    if not isinstance(wanted, dict | list):
        return None
    before, bracket, _ = answer.partition("{" if isinstance(wanted, dict) else "[")
    words = before.partition("```")[0].strip()
    return words if bracket and words else None


def _judge(outcome: Outcome) -> Judged:
    words = _filler(outcome)
    return Judged(0.0) if words is None else Judged(1.0, ((words,),))


METRIC = Reasoned(
    "chatty_prefix", one_by_one(_judge), "Answers that begin with filler", ("filler",), higher_is_better=False
)
