"""Says how a test between models stands, from the request log; may be asked at any time and as often as one likes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.console import printable, table
from sartor.errors import InputError, Problem
from sartor.monitor import segments
from sartor.monitor.ab import Unit, Verdict, judge, observed
from sartor.monitor.index import Index
from sartor.monitor.measured import MEASURES

if TYPE_CHECKING:
    from rich.console import Console

WORDS = {
    "none yet": "none yet: what is known fits both; go on",
    "stop": "stop: the arms differ by less than the margin",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a test stands by one metric."""

    test: str
    metric: str
    unit: Unit
    level: float
    margin: float
    verdict: Verdict
    rollbacks: tuple[tuple[str, str, float, int, float, float], ...]
    """(arm, guard, time, n, low, high)"""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        keys = ("arm", "guard", "time", "n", "low", "high")
        return {
            "test": self.test,
            "metric": self.metric,
            "unit": self.unit,
            "level": self.level,
            "margin": self.margin,
            "verdict": self.verdict.says,
            "winner": self.verdict.winner,
            "arms": [arm.json() for arm in self.verdict.arms],
            "rollbacks": [dict(zip(keys, each, strict=True)) for each in self.rollbacks],
        }

    def render(self, console: Console) -> None:
        """The arms with their intervals, then the verdict."""
        lines = []
        for arm in self.verdict.arms:
            known = abs(arm.low) != float("inf")
            interval = f"{arm.low:.3f} to {arm.high:.3f}" if known else "not yet"
            mean = "" if arm.mean is None else f"{arm.mean:.3f}"
            lines.append([arm.name, f"{arm.answers:,}", f"{arm.n:,}", mean, interval])
        table(console, ["arm", "answers", f"{self.unit}s measured", self.metric, f"interval ({self.level:.0%})"], lines)
        console.print()
        says = f"winner: {self.verdict.winner}" if self.verdict.winner else WORDS[self.verdict.says]
        console.print(printable(f" {self.test}, {self.metric}: {says}"), soft_wrap=True)
        for arm_name, guard, _, n, low, high in self.rollbacks:
            what = f" {arm_name} was taken out: it broke {guard} ({n:,} observations, {low:.3g} to {high:.3g})"
            console.print(printable(what), soft_wrap=True)


def standing(
    folder: Path, test: str | None, metric: str, unit: Unit, *, level: float, margin: float | None
) -> Standing:
    """How the test `test`, else the latest one of the log, stands. Raises InputError V131 without a log, V134 without the test."""
    with closing(Index(segments.existing(folder))) as index:
        index.catch_up()
        tests = index.tests()
        name = test or next(iter(tests), None)
        if name is None or name not in tests:
            what = f"the log knows no test{f' {name}' if name else ''}"
            fix = (
                f"one of {', '.join(tests)}"
                if tests
                else "sartor serve A B --log DIR --ab A=50,B=50, and requests to the model ab"
            )
            raise InputError(Problem("V134", what, file=str(folder), fix=fix))
        measure = MEASURES[metric]
        sums, answers = observed(index.of_test(name), measure, unit)
        small = measure.margin if margin is None else margin
        verdict = judge(dict(sorted(sums.items())), answers, measure, 1 - level, small)
        return Standing(name, metric, unit, level, small, verdict, tuple(index.rollbacks(name)))
