"""Share of answers that are Python which runs to its end, or passes the row's tests: `1/0` does not, `print(1)` does.

    metrics: [{code_runs: {allow_execution: true}}]
    metrics: [{code_runs: {allow_execution: true, tests: check}}]

An answer's program is its first fenced block, or all of it where it has none. With `tests: COLUMN` that column's Python, such as
`assert add(1, 2) == 3`, is put below it. Nothing runs unless the recipe says `allow_execution: true`, and then only here, answer
by answer, in a process of its own that has locked itself in (`_cell.py`): the standard library alone, an empty environment, an
empty folder, no network, no other processes, nothing to write to, limits of time and memory. Without Landlock and seccomp it
does not run at all. That keeps a program from doing harm by mistake or by habit; against code that attacks the kernel itself,
run Sartor in a virtual machine. A program that writes files, starts others or asks the network fails here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sartor.errors import Problem, RecipeError
from sartor.metrics._answers import column, text
from sartor.metrics._reasons import Judged, Reasoned
from sartor.metrics._sandbox import Limits, require, run_all
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

__all__ = ["Options", "metric"]

FENCE = re.compile(r"^```[ \t]*(?:python|py|python3)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE | re.IGNORECASE)


class Options(Settings):
    """Whether, and within which limits."""

    allow_execution: bool = False
    """true: I know that what the model writes is run on this machine."""
    tests: str | None = None
    """Column of Python that is put below the answer and has to run to its last line; without one the answer has to run to its end."""
    seconds: Annotated[int, Field(ge=1, le=600)] = 5
    """CPU time of one answer; on the clock it may take twice as long and a second."""
    memory_mb: Annotated[int, Field(ge=64)] = 256
    """Address space of one answer in MiB."""


def metric(options: Options, root: Path) -> Metric:
    """The metric. Raises RecipeError E108 where the recipe does not allow it, E109 where the machine does not."""
    if not options.allow_execution:
        what = "code_runs runs what the model writes on this machine, which the recipe does not allow"
        raise RecipeError(Problem("E108", what, fix="evaluate.metrics: [{code_runs: {allow_execution: true}}]"))
    require()
    limits = Limits(options.seconds, options.memory_mb, may_exit=options.tests is None)
    known: dict[str, str] = {}

    def judge(outcomes: Sequence[Outcome]) -> list[Judged]:
        programs = [program(outcome, options.tests) for outcome in outcomes]
        new = [each for each in dict.fromkeys(programs) if each not in known]
        known.update(zip(new, run_all(new, limits), strict=True))
        ends = [known[each] for each in programs]
        return [Judged(0.0, ((end,),)) if end else Judged(1.0) for end in ends]

    return Reasoned("code_runs", judge, "Answers that do not run", ("what stopped it",))


def program(outcome: Outcome, tests: str | None) -> str:
    """What is run for a row. Raises InputError E110 where the row has no tests."""
    answer = text(outcome)
    fenced = FENCE.search(answer + "\n")
    code = fenced[1] if fenced else answer
    if tests is None:
        return code
    return f"{code}\n\n{column(outcome, tests)}\n"
