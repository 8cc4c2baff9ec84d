"""What all judges show: costs, agreement with people, and what people and judge say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.annotate.agreement import Coefficient
from sartor.evaluate import prediction_powered
from sartor.evaluate.judges._gold import Preferences, Scores
from sartor.protocols import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sartor.evaluate.judges._asking import Judging

COSTS = ("tokens read", "tokens written", "cost")
UNSCORED = (
    "What was not scored counts nothing. No cost is shown without price, and no tokens where the judge tells none."
)


def trust(gold: Scores | Preferences | None) -> str:
    """How far the judge is known to be right."""
    if gold is None:
        return "How far this judge agrees with people is unknown: no judgements by people were given."
    return f"People judged some of the answers ({len(gold):,} judgements); the tables say how far the judge agrees with them."


def unreadable(failed: int, questions: int, options: Judging) -> str:
    """What is told of replies that could not be read."""
    return (
        f"{failed:,} of {questions:,} questions got no reply of {options.model} that could be read in {options.tries} tries; "
        "they are not scored"
    )


def agreement_table(title: str, found: Sequence[Coefficient]) -> Table:
    """Coefficients with their intervals."""
    lines = tuple((one.name, one.value, one.low, one.high, one.rows) for one in found)
    note = "1 is full agreement, 0 what chance alone gives; of equal scores or verdicts it is the share."
    return Table(title, ("", "value", "from", "to", "answers"), lines, note)


def powered_table(title: str, judge: NDArray[np.float64], people: NDArray[np.float64], confidence: float) -> Table:
    """People alone, the judge alone, and both together, with normal intervals."""
    both = np.isfinite(judge) & np.isfinite(people)
    alone = prediction_powered.interval(judge[both], people[both], confidence, fixed=0.0)
    judged = prediction_powered.interval(judge, judge, confidence, fixed=0.0)
    powered = prediction_powered.interval(judge, people, confidence)
    lines = (
        ("people alone", alone.value, alone.low, alone.high, alone.people),
        ("the judge alone", judged.value, judged.low, judged.high, judged.people),
        ("both together", powered.value, powered.low, powered.high, powered.people + powered.others),
    )
    note = (
        f"Together: the judge counts with weight {powered.weight:.2f} and is corrected by the {powered.people:,} answers that people "
        "judged. It holds where those are a random part of all."
    )
    return Table(title, ("", "mean", "from", "to", "answers"), lines, note)
