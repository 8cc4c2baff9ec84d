"""When one label is another one, misspelt."""

from __future__ import annotations

from collections import Counter

RARE = 2
"""A label used more often than this is no slip of the hand ..."""
OFTEN = 10
"""... and neither is one whose neighbour is not used this many times as often."""
LABELS = 2000
"""With more labels than this they are answers, not classes."""


def folded(label: str) -> str:
    """The label's letters and digits; the label itself where it has none."""
    return "".join(filter(str.isalnum, label.casefold())) or label


def is_slip(label: str, other: str) -> bool:
    """Whether a slip of the hand makes one label of the other; labels that differ in digits are meant."""
    one, two = label.casefold(), other.casefold()
    if label == other or min(len(one), len(two)) < 4 or abs(len(one) - len(two)) > 2:
        return False
    if "".join(filter(str.isdigit, one)) != "".join(filter(str.isdigit, two)):
        return False
    allowed = 1 if min(len(one), len(two)) < 8 else 2
    if sum(((Counter(one) - Counter(two)) + (Counter(two) - Counter(one))).values()) > 2 * allowed:
        return False
    return distance(one, two) <= allowed


def distance(one: str, two: str) -> int:
    """Damerau-Levenshtein distance (optimal string alignment): inserted, deleted, changed or swapped characters."""
    before: list[int] = []
    above = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(two, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if before and j > 1 and a == two[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]
