"""The base of everything a user can set, and the record of what was decided for them and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Auto = Literal["auto"]
AUTO: Auto = "auto"


class Options(BaseModel):
    """Frozen, strict settings. Every field carries a description; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=False)


class NoOptions(Options):
    """A component without settings."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value together with the sentence that explains it."""

    value: Any
    why: str
