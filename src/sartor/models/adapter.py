"""What a method puts beside a model's own weights, whatever it is: it can be switched off, and saved by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sartor.models.virtual import Virtual

OUTSIDE = frozenset({"prompt_tuning", "prefix_tuning"})
"""Kinds that change no layer, and so can stand beside any other."""
FIRST = "default"
"""Name of the adapter that a method makes, or that a model was opened with."""


class Adapter(Protocol):
    """One adapter inside of a model. Several can be there; at most one of them is in use."""

    @property
    def kind(self) -> str:
        """lora, ia3, oft, vera, bottleneck, prompt_tuning or prefix_tuning."""
        ...

    virtual: Virtual | None
    """What it puts before every row; None: nothing."""

    def on(self) -> None:
        """Take part in what the model computes."""
        ...

    def off(self) -> None:
        """Leave the model as if it was not there."""
        ...

    def save(self, folder: Path, base: str) -> None:
        """Write it into a folder, as belonging to the model `base`."""
        ...
