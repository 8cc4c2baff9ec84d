"""The base of everything a user can set, and the record of what was decided for them and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

Auto = Literal["auto"]
AUTO: Auto = "auto"


class Options(BaseModel):
    """Frozen, strict settings: "3" is not a number, 1 is not true, an unknown key is an error. Every field has a docstring."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()}


class NoOptions(Options):
    """A component without settings."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value together with the sentence that explains it."""

    value: Any
    why: str
