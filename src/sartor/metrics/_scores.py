"""Probabilities of labels, and what is right of each: what calibration and ranking of them are judged by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import choice, right
from sartor.protocols import Outcome


def probabilities(outcome: Outcome) -> dict[str, float]:
    """Of each label; they sum to 1 where a row has one. Strings that were scored are compared with each other alone."""
    names = list(outcome.label_scores)
    scores = np.array([outcome.label_scores[name] for name in names], np.float64)
    if outcome.right_labels is not None:
        return dict(zip(names, np.exp(scores).tolist(), strict=True))
    if not names:
        return {choice(outcome): 1.0}
    weights = np.exp(scores - scores.max())
    return dict(zip(names, (weights / weights.sum()).tolist(), strict=True))


def sureness(outcomes: Sequence[Outcome]) -> list[list[tuple[float, bool]]]:
    """For each row (confidence, right): of the label chosen, or of the decision on each label where there may be several.

    A text without scores is taken to be sure of itself.
    """
    found = []
    for outcome in outcomes:
        shares = probabilities(outcome)
        if outcome.right_labels is None:
            best = choice(outcome)
            found.append([(shares.get(best, 1.0), best == right(outcome))])
            continue
        wanted = set(outcome.right_labels)
        found.append([(max(p, 1 - p), (p > 0.5) == (name in wanted)) for name, p in shares.items()])
    return found
