"""Who has an id already, in 24 to 48 bytes an id."""

from __future__ import annotations

from array import array

from sartor.data.rows import Origin

_BITS = 64
_LINE_BITS = 40
"""A line's number has this many bits, the file's those above."""
_FULLEST = 0.66


class Owners:
    """A table from ids to the rows that have them. Ids are told apart by a hash of 64 bits."""

    def __init__(self) -> None:
        self._size, self._count = 1 << 10, 0
        self._keys, self._places = _empty("Q", self._size), _empty("Q", self._size)
        self._files: dict[str, int] = {}

    def claim(self, identity: str, origin: Origin) -> Origin | None:
        """Register an id. Returns the row that has it already, if any."""
        key = hash(identity) % (1 << _BITS) or 1
        at = self._slot(key)
        if self._keys[at]:
            return self._origin(self._places[at])
        file = self._files.setdefault(origin.file, len(self._files))
        self._keys[at], self._places[at] = key, file << _LINE_BITS | origin.line
        self._count += 1
        if self._count > _FULLEST * self._size:
            self._grow()
        return None

    def _slot(self, key: int) -> int:
        """Where a key is, or where it belongs."""
        keys, last = self._keys, self._size - 1
        at = key & last
        while keys[at] not in (0, key):
            at = (at + 1) & last
        return at

    def _origin(self, place: int) -> Origin:
        return Origin(list(self._files)[place >> _LINE_BITS], place & ((1 << _LINE_BITS) - 1))

    def _grow(self) -> None:
        keys, places = self._keys, self._places
        self._size *= 2
        self._keys, self._places = _empty("Q", self._size), _empty("Q", self._size)
        for key, place in zip(keys, places, strict=True):
            if key:
                at = self._slot(key)
                self._keys[at], self._places[at] = key, place


def _empty(code: str, size: int) -> array[int]:
    made = array(code)
    made.frombytes(bytes(size * made.itemsize))
    return made
