"""Checkpoints of one stage: published whole, verified before use, the damaged ones set aside by name.

    checkpoints/step-000400/   what the writers wrote, and COMPLETE
    checkpoints/best           {"checkpoint": "step-000400", "sha256": of its COMPLETE}
    checkpoints/.corrupt-...   a damaged one, kept for a look

Their order is that of their step numbers; clocks play no part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sartor.errors import Problem, RunError
from sartor.events import Noted
from sartor.protocols import Saver
from sartor.store import atomic
from sartor.store.ranks import ONE, Ranks

_STEP = re.compile(r"step-(\d{6,})")
_CORRUPT = ".corrupt-"


class Checkpoints:
    """The checkpoints in `folder`. `note` hears of every damaged one (F111) and of what was lost with it."""

    def __init__(self, folder: Path, note: Callable[[Noted], None], *, owner: str = "", ranks: Ranks = ONE) -> None:
        """Open or make `folder` and clear what a killed process left there.

        `owner` names the run; a checkpoint that another owner wrote counts as damaged. Call it with the run locked. Where
        several `ranks` train together, each calls everything here; rank 0 looks, decides and notes for all.
        """
        self.folder, self._note, self._owner, self._ranks = folder, note, owner, ranks
        ranks.lead(self._open)

    def _open(self) -> None:
        atomic.make_folder(self.folder)
        atomic.tidy(self.folder)

    def save(self, step: int, writers: Mapping[str, Saver], *, keep: int) -> Path:
        """Publish a checkpoint, then remove all but the best one and the newest `keep` (at least 1) beside it.

        Each rank gives writers of its own files, under names that no other rank uses.

        Where none is marked best, the newest ``keep + 1`` stay: there is always an earlier one to fall back on. Raises
        SartorError F130 (disk full) or F131; the earlier checkpoints are untouched then.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        path = self.path(step)
        about = {"step": step, "owner": self._owner}
        atomic.publish(path, writers, about=about, needs=self._ranks.lead(self._needs), ranks=self._ranks)
        self._ranks.lead(lambda: self._rotate(keep))
        return path

    def _needs(self) -> int:
        """Bytes of the last checkpoint, which the next one will take as well."""
        last = max(self.steps(), default=None)
        return 0 if last is None else _bytes(self.path(last))

    def newest(self) -> Path | None:
        """The newest checkpoint whose every byte is right; None when nothing was ever saved.

        A damaged one is renamed to ``.corrupt-...``, noted (warning F111), and the one before it is tried; the mark of
        the best is checked as well. Raises RunError F110 when there were checkpoints and none is good: training never
        starts over by itself.
        """
        step = self._ranks.lead(self._newest)
        return None if step is None else self.path(step)

    def _newest(self) -> int | None:
        for step in reversed(self.steps()):
            problems = self._problems(step)
            if not problems:
                self._marked()
                return step
            self._set_aside(step, problems)
        damaged = sorted(self.folder.glob(f"{_CORRUPT}*"))
        if damaged:
            raise RunError(
                Problem(
                    "F110",
                    f"no checkpoint is left that can be trusted ({len(damaged)} damaged)",
                    file=str(self.folder),
                    excerpt=", ".join(path.name for path in damaged[-3:]),
                    fix="restore a copy of a step-... folder, or delete this folder to train from step 0",
                )
            )
        return None

    def mark_best(self, step: int) -> None:
        """Let `best` name the checkpoint of `step`. Raises ValueError when it was not saved."""
        self._ranks.lead(lambda: self._mark(step))

    def _mark(self, step: int) -> None:
        if step not in self.steps():
            raise ValueError(f"there is no checkpoint of step {step} in {self.folder}")
        name = self.path(step).name
        atomic.write_json(self.folder / "best", {"checkpoint": name, "sha256": atomic.seal(self.path(step))["sha256"]})

    def best(self) -> Path | None:
        """The checkpoint marked best, verified; None when none is marked or the mark leads to nothing good (noted)."""
        step = self._ranks.lead(self._best)
        return None if step is None else self.path(step)

    def _best(self) -> int | None:
        step = self._marked()
        if step is None:
            return None
        problems = self._problems(step)
        if not problems:
            return step
        self._set_aside(step, problems)
        self._drop_mark()
        return None

    def best_step(self) -> int | None:
        """The step marked best, its checkpoint not yet verified. A mark that leads nowhere is removed and noted (F112)."""
        return self._ranks.lead(self._marked)

    def _marked(self) -> int | None:
        path = self.folder / "best"
        if not path.exists():
            return None
        try:
            with atomic.coded(path, verb="read"):
                mark: Any = json.loads(path.read_bytes())
            step = _number(mark["checkpoint"])
            if atomic.seal(self.path(step))["sha256"] == mark["sha256"]:
                return step
        except (ValueError, KeyError, TypeError):
            pass
        self._drop_mark()
        return None

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order, not yet verified."""
        with atomic.coded(self.folder, verb="read"):
            return sorted(int(found[1]) for path in self.folder.iterdir() if (found := _STEP.fullmatch(path.name)))

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` is or would be."""
        return self.folder / f"step-{step:06d}"

    def clear(self) -> None:
        """Forget all checkpoints, the damaged ones too: training starts over because the user said so."""
        self._ranks.lead(self._clear)

    def _clear(self) -> None:
        atomic.forget(self.folder / "best")
        for step in self.steps():
            atomic.remove(self.path(step))
        for path in self.folder.glob(f"{_CORRUPT}*"):
            atomic.remove(path)

    def _problems(self, step: int) -> list[str]:
        path = self.path(step)
        problems = atomic.verify(path)
        if problems:
            return problems
        about = atomic.seal(path)["about"]
        if about.get("step") != step:
            return [f"it is the checkpoint of step {about.get('step')} under another name"]
        if about.get("owner") != self._owner:
            return ["it belongs to another run"]
        return []

    def _set_aside(self, step: int, problems: list[str]) -> None:
        path = self.path(step)
        aside = path.with_name(_CORRUPT + path.name)
        number = 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{_CORRUPT}{path.name}-{number}")
        atomic.rename(path, aside)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self._note(
            Noted(
                "warning",
                "F111",
                f"checkpoint {path.name} is damaged: {problems[0]}{more}; set aside as {aside.name}",
                step,
            )
        )

    def _drop_mark(self) -> None:
        atomic.forget(self.folder / "best")
        self._note(Noted("warning", "F112", "the mark of the best checkpoint led to none that is good; it was removed"))

    def _rotate(self, keep: int) -> None:
        steps, best = self.steps(), self._marked()
        beside = [step for step in steps if step != best]
        for step in beside[: -keep if best is not None else -keep - 1]:
            atomic.remove(self.path(step))


def _number(name: object) -> int:
    found = _STEP.fullmatch(str(name))
    if not found:
        raise ValueError(f"{name!r} is not the name of a checkpoint")
    return int(found[1])


def _bytes(path: Path) -> int:
    try:
        return sum(entry["size"] for entry in atomic.seal(path)["files"].values())
    except (ValueError, KeyError, TypeError):
        return 0
