"""Makes the rows of a recipe's `data.augment`, writes them beside their parents, and measures whether they help."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.augmentation import Making
from sartor.data.making import Means
from sartor.data.pipeline import Prepared, prepare
from sartor.data.release import plain
from sartor.errors import RecipeError
from sartor.events import Event
from sartor.flow.job import begun
from sartor.flow.writers import opener
from sartor.recipe.load import Loaded, load

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from sartor.flow.augment_gain import Gain

ROWS = "augmented.jsonl"
PIECE = re.compile(r"\s+|\w+|[^\w\s]")
STYLES = {"old": "red strike", "new": "black on green"}


@dataclass(frozen=True, slots=True)
class DataAugmented:
    """What was made, and what came of it."""

    folder: Path
    steps: tuple[Making, ...]
    show: int
    gain: Gain | None = None
    """Whether it helps; None where nobody asked."""

    @property
    def exit_code(self) -> int:
        """0: rows that do not help are told, not refused."""
        return 0

    def json(self) -> dict[str, Any]:
        """``{"rows": path, "ways": [{way, rows, made, parents, dropped, refused, examples}], "gain"}``."""
        return {
            "rows": str(self.folder / ROWS),
            "ways": [asdict(step) for step in self.steps],
            "gain": None if self.gain is None else self.gain.json(),
        }

    def render(self, console: Console) -> None:
        """For each way its counts and pairs of rows, what differs in colour."""
        from sartor.console import printable

        for step in self.steps:
            console.print(
                f" {step.way}   {step.made:,} rows from {step.parents:,} of {step.rows:,} training rows",
                style="bold",
                soft_wrap=True,
            )
            for why, count in step.dropped.items():
                console.print(f"   left out {count:,}: {why}", style="dim", soft_wrap=True)
            for why, count in step.refused.items():
                console.print(f"   answers not used {count:,}: {why}", style="dim", soft_wrap=True)
            for example in step.examples[: self.show]:
                console.print(f"   {printable(example['row'])}", style="dim", soft_wrap=True)
                for line in _pair(example, plain=console.color_system is None):
                    console.print(line, soft_wrap=True)
        console.print(f" wrote {printable(str(self.folder / ROWS))}", soft_wrap=True)
        if self.gain is not None:
            self.gain.render(console)


def data_augment(
    path: Path,
    out: Path,
    overrides: Sequence[str],
    emit: Callable[[Event], None],
    *,
    show: int = 3,
    measure: bool = False,
    seeds: int = 1,
) -> DataAugmented:
    """Make the rows and write them to augmented.jsonl in `out`; models are asked where the recipe wants it.

    With `measure`, train with and without them, `seeds` times each. What is prepared, answered and trained is kept in `out`;
    the same command goes on. Raises InputError for faulty input, Interrupted when stopped.
    """
    loaded = load(path, overrides)
    _require_ways(loaded)
    models = opener(loaded.root)
    with begun(out):
        if measure:
            from sartor.flow.augment_gain import gain

            found, rows = gain(loaded, load(path, [*overrides, "data.augment=[]"]), out, models, emit, seeds=seeds)
        else:
            means = Means(loaded.recipe.seed, models)
            (out / "data").mkdir(exist_ok=True)
            rows = prepare(loaded.recipe.data, root=loaded.root, folder=out / "data", emit=emit, means=means)
            found = None
    temporary = out / f".tmp-{ROWS}"
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(_lines(rows))
    temporary.replace(out / ROWS)
    return DataAugmented(out, tuple(rows.augmented), show, found)


def _require_ways(loaded: Loaded) -> None:
    if not loaded.recipe.data.augment:
        what = "the recipe names no way to make rows"
        raise RecipeError(loaded.problem("R106", "data", what, fix="data: {..., augment: [{synonyms: {rate: 0.1}}]}"))


def _lines(rows: Prepared) -> Iterator[str]:
    read = int(rows.originals.sum())
    for number in range(read, len(rows.dataset)):
        yield json.dumps(plain(rows.dataset[number]), ensure_ascii=False) + "\n"


def _pair(example: dict[str, str], *, plain: bool) -> Iterator[Text]:
    """Before and after; an answer only where it differs."""
    keys = ["asked"] if example["answered"] == example["made_answered"] else ["asked", "answered"]
    for key in keys:
        old, new = example[key], example[f"made_{key}"]
        yield from compared(old, new, plain=plain)


def compared(old: str, new: str, *, plain: bool) -> tuple[Text, Text]:
    """Two lines with what has gone marked in the first and what has come in the second; in brackets without colours."""
    from rich.text import Text

    from sartor.console import printable

    before, after = PIECE.findall(old), PIECE.findall(new)
    first, second = Text("     - "), Text("     + ")
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for line, pieces, name in ((first, before[a:b], "old"), (second, after[c:d], "new")):
            text = printable("".join(pieces)).replace("\n", "\\n")
            if kind == "equal":
                line.append(text)
            elif text:
                line.append(f"[[{text}]]" if plain else text, STYLES[name])
    return first, second
