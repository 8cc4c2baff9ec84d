"""L2-SP: every weight is pulled alike towards where it began, strength/2 sum_j (w_j - w0_j)^2.

Li et al. 2018, "Explicit inductive bias for transfer learning with convolutional networks", equation 2. Departure: weights that
the base does not have, such as those of an adapter, are pulled towards where they began as well, not towards zero.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions

importance = None
"""Every weight counts the same, so nothing has to be measured."""
BYTES = 4
"""Bytes of memory for each number that moves: where it began."""


class Options(BaseOptions):
    """How strongly."""

    strength: Annotated[float, Field(gt=0)] = 0.01
    """Factor of the penalty, which is added to the mean loss."""
