"""The distance of two sequences in edits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence


def distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and replacements that turn one into the other (Levenshtein 1966).

    A column of the table is one whole number, a bit for each row of it (Myers 1999, in the form of Hyyrö 2003).
    """
    if not one:
        return len(other)
    places: dict[Hashable, int] = defaultdict(int)
    for index, entry in enumerate(one):
        places[entry] |= 1 << index
    every, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, edits = every, 0, len(one)
    for entry in other:
        same = places.get(entry, 0)
        diagonal = (((same & up) + up) ^ up) | same | down
        more, less = down | (~(diagonal | up) & every), diagonal & up
        edits += bool(more & last) - bool(less & last)
        more, less = (more << 1) | 1, less << 1
        up, down = (less | ~(diagonal | more)) & every, more & diagonal & every
    return edits
