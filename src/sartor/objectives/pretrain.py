"""Self-supervised training on raw text: every token is predicted from those before it in its own document.

The formula is that of sft; what differs is that rows are documents and every token carries loss.
"""

from __future__ import annotations

from sartor.objectives.sft import Options, loss

__all__ = ["ROWS", "Options", "loss"]

ROWS = frozenset({"text"})
