"""Tokens that a recipe adds to its base's vocabulary; kept in sartor.json beside a model that has them. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY = "grown"
"""Name in sartor.json."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The texts of further tokens, whose ids are `first`, `first + 1` and so on."""

    tokens: tuple[str, ...]
    first: int

    @property
    def end(self) -> int:
        """One more than the last id."""
        return self.first + len(self.tokens)

    @classmethod
    def of(cls, folder: Path) -> Growth | None:
        """What the model of a folder was given."""
        file = folder / "sartor.json"
        return cls.told(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    @classmethod
    def told(cls, facts: Mapping[str, Any]) -> Growth | None:
        """What sartor.json says of it."""
        kept = facts.get(KEY)
        return None if kept is None else cls(tuple(kept["tokens"]), int(kept["first"]))

    def json(self) -> dict[str, Any]:
        """A JSON object that `told` reads again."""
        return asdict(self)
