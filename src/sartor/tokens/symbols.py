"""The control tokens that an objective puts into texts by itself: the mask, and the sentinels of left-out spans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sartor.tokens.vocabulary import Vocabulary

_SENTINEL = re.compile(r"<extra_id_(\d+)>")


@dataclass(frozen=True)
class Symbols:
    """Ids by what they are for."""

    mask: int | None
    """Stands for a hidden token."""
    sentinels: tuple[int, ...]
    """Stand for spans that are left out, in order."""
    end: int | None
    """Ends a text."""
    controls: frozenset[int]
    """Every control token, these among them."""
    size: int
    """One more than the largest id."""

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Symbols:
        """Those of a vocabulary."""
        found = [
            (int(match[1]), index) for text, index in vocabulary.added.items() if (match := _SENTINEL.fullmatch(text))
        ]
        sentinels = tuple(index for _, index in sorted(found))
        controls = frozenset({*vocabulary.special_tokens.values(), *sentinels})
        return cls(vocabulary.mask_id, sentinels, vocabulary.eos_id, controls, vocabulary.size)

    def missing(self, wanted: tuple[str, ...]) -> str | None:
        """The first of these that the vocabulary does not have, for people."""
        told = {
            "mask": "a mask token",
            "sentinels": "sentinels (<extra_id_0>, <extra_id_1> ...)",
            "end": "an end-of-text token",
        }
        found = {"mask": self.mask is not None, "sentinels": len(self.sentinels) > 1, "end": self.end is not None}
        return next((told[name] for name in wanted if not found[name]), None)

    def control(self, ids: np.ndarray) -> np.ndarray:
        """[L] bool, which of these are control tokens."""
        found: np.ndarray = self._controls[ids]
        return found

    @cached_property
    def _controls(self) -> np.ndarray:
        found = np.zeros(max([self.size, *(index + 1 for index in self.controls)]), np.bool_)
        found[sorted(self.controls)] = True
        return found

    @cached_property
    def words(self) -> np.ndarray:
        """Every id that is no control token."""
        return np.flatnonzero(~self._controls)
