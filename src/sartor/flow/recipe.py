"""A recipe in Python: the same checks and the same run as on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sartor.events import Event
from sartor.recipe.load import load as load_recipe

if TYPE_CHECKING:
    from sartor.flow.check import Checked
    from sartor.flow.run import Ran

Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """Shows nothing. `sartor.console.display().see` shows what the command line shows."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe file with overrides, found valid."""

    path: Path
    overrides: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path, *overrides: str) -> Self:
        """Read a recipe; overrides are `key=value` as on the command line. Raises RecipeError with every fault."""
        load_recipe(Path(path), overrides)
        return cls(Path(path), overrides)

    @classmethod
    def write(cls, path: str | Path, **sections: Any) -> Self:
        """Write a new recipe from its sections as plain values, and read it.

        `Recipe.write("recipe.yaml", base="sartor/nano", data="tickets.jsonl")`. Raises FileExistsError, and RecipeError.
        """
        import yaml

        with Path(path).open("x", encoding="utf-8") as file:
            yaml.safe_dump(sections, file, sort_keys=False, allow_unicode=True)
        return cls.load(path)

    def check(self, emit: Emit = silent) -> Checked:
        """Resolve every value, audit the data, predict memory and time; writes nothing. Raises InputError."""
        from sartor.flow.check import check

        return check(self.path, self.overrides, emit)

    def run(self, out: str | Path | None = None, *, allow: tuple[str, ...] = (), emit: Emit = silent) -> Ran:
        """Run it, or resume it. Raises InputError, TrainingStopped, Interrupted."""
        from sartor.flow.run import run

        return run(self.path, Path(out) if out else None, self.overrides, allow, emit)
