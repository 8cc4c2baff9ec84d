"""How the linear layers of a base model are held in memory when not as they are stored. Torch-free; kept in sartor.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sartor.models.catalog import ModelFolder

Bits = Literal["nf4", "fp4", "int8"]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Four bits a weight in blocks of 64, or eight with a scale for each row. Rounding starts from `dtype`, so that is part of
    which model it is."""

    kind: Bits
    double: bool
    """The scales of the blocks are quantised too, to 8 bits in blocks of 256."""
    dtype: Literal["float32", "bfloat16"]
    """Type the weights were rounded from and that products are computed in."""

    @classmethod
    def of(cls, folder: ModelFolder) -> Quantization | None:
        """What the adapter of `folder` was trained on, where that was a quantised base."""
        facts = folder.path / "sartor.json"
        kept = json.loads(facts.read_text(encoding="utf-8")).get("quantization") if facts.exists() else None
        return None if kept is None else cls(**kept)

    def json(self) -> dict[str, Any]:
        """A JSON object that `of` reads again."""
        return asdict(self)

    def __str__(self) -> str:
        if self.kind == "int8":
            return f"8 bits (int8 by rows, from {self.dtype})"
        return f"4 bits ({self.kind}{', scales in 8 bits' if self.double else ''}, from {self.dtype})"
