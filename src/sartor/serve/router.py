"""Which model answers a request: that which it names, or an arm of a test, the same for a user at every time.

A user has a place in [0, 1) by a hash of the test's name and the key (`user` of the request, else its id), and the arms divide that line
by their shares. An arm that is taken out leaves its users to the others; everybody else keeps the arm they had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

HEADER = "x-sartor-arm"
"""Tells the client which arm has answered."""


class Router:
    """One test.

    Args:
        name: of the test, and of the model that requests name to take part.
        shares: arm -> weight > 0.
    """

    def __init__(self, name: str, shares: Mapping[str, float]) -> None:
        self.name, self._shares, self._out = name, dict(shares), frozenset[str]()

    @property
    def shares(self) -> dict[str, float]:
        """Arm -> share of the requests now, together 1."""
        left = sum(weight for arm, weight in self._shares.items() if arm not in self._out)
        return {arm: 0.0 if arm in self._out else weight / left for arm, weight in self._shares.items()}

    def arm(self, key: str) -> str:
        """The arm of a user or a request."""
        first = _at(self._shares, _place(f"{self.name}\0{key}"))
        if first not in self._out:
            return first
        rest = {arm: weight for arm, weight in self._shares.items() if arm not in self._out}
        return _at(rest, _place(f"{self.name}\0again\0{key}"))

    def take_out(self, arm: str) -> bool:
        """Give an arm no more requests; False where it is the last one, which stays."""
        if set(self._shares) - self._out == {arm}:
            return False
        self._out |= {arm}
        return True


def _at(shares: Mapping[str, float], place: float) -> str:
    total, reached = sum(shares.values()), 0.0
    for arm, weight in shares.items():
        reached += weight / total
        if place < reached:
            return arm
    return arm


def _place(key: str) -> float:
    digest = hashlib.blake2b(key.encode(errors="backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
