"""What a report shows of classes: precision, recall and F1 of each, and which was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from sartor.metrics._answers import choice, right
from sartor.protocols import Outcome, Table

WIDEST = 12
"""Classes up to which the confusion is shown as a matrix."""
LISTED = 50
"""Pairs of more classes that are listed, the most frequent first."""
OTHER = "(none of them)"
"""An answer that is no class."""


def per_class(counts: Mapping[str, Sequence[int]], confidence: float) -> Table:
    """Three lines a class from its (true positives, false positives, false negatives), each rate with the rows it is of.

    A row that has to do with a class is right, given wrongly, or missed. So precision, recall and the share of rows that are
    right among all these, J, are shares of rows with Wilson's interval; F1 = 2 J / (1 + J) rises with J, and its bounds are
    those of J.
    """
    lines: list[tuple[str | int | float | None, ...]] = []
    for name, (both, wrongly, missed) in counts.items():
        lines.append((name, "precision", *wilson(both, both + wrongly, confidence), both + wrongly))
        lines.append((name, "recall", *wilson(both, both + missed, confidence), both + missed))
        rows = both + wrongly + missed
        bounds = [None if j is None else 2 * j / (1 + j) for j in wilson(both, rows, confidence)]
        lines.append((name, "F1", *bounds, rows))
    columns = ("label", "score", "value", f"from ({100 * confidence:g} %)", "to", "rows")
    return Table("Each label by itself", columns, tuple(lines))


def wilson(hits: int, rows: int, confidence: float) -> tuple[float | None, float | None, float | None]:
    """(share, low, high) of `hits` out of `rows` (Wilson 1927, equation 2); None without rows."""
    if not rows:
        return None, None, None
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = hits / rows
    middle = (hits + z2 / 2) / (rows + z2)
    reach = (z2 * (share * (1 - share) * rows + z2 / 4)) ** 0.5 / (rows + z2)
    return share, max(0.0, middle - reach), min(1.0, middle + reach)


def confusion(outcomes: Sequence[Outcome], classes: Sequence[str]) -> Table:
    """Rows by right and given label; of more than `WIDEST` labels only the pairs that were taken for each other."""
    known = set(classes)
    given = [name if (name := choice(outcome)) in known else OTHER for outcome in outcomes]
    pairs = Counter(zip(map(right, outcomes), given, strict=True))
    if len(classes) <= WIDEST:
        across = (*classes, OTHER)
        lines: list[tuple[str | int, ...]] = [(truth, *(pairs[truth, guess] for guess in across)) for truth in classes]
        return Table("Labels taken for each other", ("right \\ given", *across), tuple(lines))
    wrong = sorted(((n, pair) for pair, n in pairs.items() if pair[0] != pair[1]), key=lambda each: (-each[0], each[1]))
    more = len(wrong) - LISTED
    note = f"and {more:,} more pairs, with {sum(n for n, _ in wrong[LISTED:]):,} rows" if more > 0 else ""
    rows = tuple((truth, guess, n) for n, (truth, guess) in wrong[:LISTED])
    return Table("Labels taken for each other", ("right", "given", "rows"), rows, note)
