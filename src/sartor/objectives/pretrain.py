"""Self-supervised training on raw text: every token is predicted from those before it in its own document.

The formula is that of sft; what differs is that rows are documents and every token carries loss.
"""

from __future__ import annotations

from sartor.objectives.sft import Options, loss
from sartor.protocols import Traits

__all__ = ["TRAITS", "Options", "loss"]

TRAITS = Traits(rows=frozenset({"text"}))
