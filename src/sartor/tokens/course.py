"""What training takes of its rows: which of them an epoch has, in which order, and how much each counts in the loss."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sartor.data.columns import read_columns, write_columns
from sartor.data.groups import Rows
from sartor.data.mixture import Mixture

BUCKETS = 10
"""Rows of about equal difficulty that stay shuffled among each other."""


@dataclass(frozen=True)
class Course:
    """A plain course takes every row once an epoch, shuffled.

    Args:
        mixture: how much of each source an epoch takes; None: all rows once.
        difficulty: [n] numbers by which rows are taken in ascending order, in tenths; None: any order.
        sorted_epochs: so many epochs, from the first, follow the difficulty.
        scale: [n] factors of the rows' loss weights; None: 1.
    """

    mixture: Mixture | None = None
    difficulty: NDArray[np.float64] | None = None
    sorted_epochs: int = 0
    scale: NDArray[np.float32] | None = None

    def order(self, count: int, seed: int, epoch: int) -> Rows:
        """The rows of an epoch, 0..count-1, in the order they are taken."""
        rows = np.arange(count) if self.mixture is None else self.mixture.rows(epoch)
        order = rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]
        if self.difficulty is None or epoch >= self.sorted_epochs:
            return order
        place = np.empty(len(order), np.int64)
        place[np.argsort(self.difficulty[order], kind="stable")] = np.arange(len(order))
        return order[np.argsort(place * BUCKETS // max(1, len(order)), kind="stable")]

    def take(self, chosen: Rows) -> Course:
        """The course of some of the rows; a source comes as often in proportion to its rows as it did."""
        mixture = self.mixture
        if mixture is not None:
            lengths, source = mixture.lengths[chosen], mixture.source[chosen]
            left = np.bincount(source, lengths, len(mixture.demand)) / np.maximum(mixture.tokens, 1)
            mixture = Mixture(lengths, source, mixture.demand * left, mixture.seed)
        return Course(
            mixture,
            None if self.difficulty is None else self.difficulty[chosen],
            self.sorted_epochs,
            None if self.scale is None else self.scale[chosen],
        )

    def write(self, path: Path) -> None:
        """Keep it, for other ranks and for resuming."""
        columns: dict[str, NDArray[Any]] = {}
        if self.mixture is not None:
            columns |= {"lengths": self.mixture.lengths, "source": self.mixture.source, "demand": self.mixture.demand}
        columns |= {} if self.difficulty is None else {"difficulty": self.difficulty}
        columns |= {} if self.scale is None else {"scale": self.scale}
        seed = 0 if self.mixture is None else self.mixture.seed
        temporary = path.with_name(f".tmp-{path.name}")
        write_columns(temporary, columns, {"seed": seed, "sorted_epochs": self.sorted_epochs})
        os.replace(temporary, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """What was written before."""
        columns, about = read_columns(path)
        mixture = None
        if "demand" in columns:
            mixture = Mixture(columns["lengths"], columns["source"], columns["demand"], about["seed"])
        return cls(mixture, columns.get("difficulty"), about["sorted_epochs"], columns.get("scale"))


PLAIN = Course()
