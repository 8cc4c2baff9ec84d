"""What is exported: a model on disk with its renderer, and how its form is named in a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.errors import ModelError, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.models.catalog import ModelFolder
    from sartor.tokens.render import Renderer


@dataclass(frozen=True, slots=True)
class Source:
    """A model that exporters read and never change."""

    folder: ModelFolder
    renderer: Renderer
    facts: Mapping[str, Any]
    """What its sartor.json says that stays true of another form of it."""
    card: Path | None = None
    """Its model card, where it has one."""

    @property
    def stop_ids(self) -> list[int]:
        """Ids that end an answer, sorted."""
        return sorted(self.renderer.stop_ids)


def refused(name: str, what: str, fix: str) -> ModelError:
    """M201: this model cannot be exported so."""
    return ModelError(Problem("M201", f"{name}: {what}", fix=fix))
