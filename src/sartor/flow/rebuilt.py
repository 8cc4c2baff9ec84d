"""The report of a finished run written anew from its folder: with what people have said of its answers since, and nothing run again.

report.json    everything that the report shows, as the run knew it when it ended
human/*.json   what people said later (flow/human.py)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from sartor.console import printable
from sartor.errors import Problem, RunError
from sartor.evaluate.facts import ReportFacts
from sartor.evaluate.report import report
from sartor.evaluate.report_markdown import report_markdown
from sartor.store import atomic
from sartor.store.run import Run, find

if TYPE_CHECKING:
    from rich.console import Console

FACTS = "report.json"
HUMAN = "human"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A report that was written anew."""

    folder: Path
    human: tuple[str, ...]
    """Names of the parts that tell what people said."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {"folder": str(self.folder), "report": str(self.folder / "report.html"), "human": list(self.human)}

    def render(self, console: Console) -> None:
        """Where it is."""
        console.print(printable(f"report: {self.folder / 'report.html'}"), soft_wrap=True)


def kept(facts: ReportFacts) -> dict[str, Any]:
    """The facts as a JSON object; numbers that are not finite become null."""
    plain: dict[str, Any] = _plain(asdict(facts))
    return plain


def facts_of(body: Mapping[str, Any]) -> ReportFacts:
    """The inverse of `kept`. Raises TypeError where something is missing."""
    facts: ReportFacts = _built(ReportFacts, body)
    return facts


def rebuild(reference: str, root: Path) -> Rebuilt:
    """Write report.html and report.md of a run anew. Raises RunError F104 to F106, F107 where the run has kept no facts."""
    run = find(reference, root)
    return write(run)


def write(run: Run) -> Rebuilt:
    """The same for a run that was found."""
    body = run.read_json(FACTS)
    if body is None:
        what = f"there is no {FACTS}: the run has not ended yet, or it was made by an older version"
        fix = "run the recipe again, in a new folder, where the run is an old one"
        raise RunError(Problem("F107", what, file=str(run.folder), fix=fix))
    try:
        facts = facts_of(body)
    except (TypeError, AttributeError) as fault:
        raise RunError(Problem("F106", f"{FACTS} is damaged: {fault}", file=str(run.folder / FACTS))) from fault
    said = [run.read_json(f"{HUMAN}/{path.name}") for path in sorted((run.folder / HUMAN).glob("*.json"))]
    facts = replace(facts, suites=[*said, *facts.suites])
    atomic.write_text(run.folder / "report.html", report(facts))
    atomic.write_text(run.folder / "report.md", report_markdown(facts))
    return Rebuilt(run.folder, tuple(each["name"] for each in said))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _built(kind: Any, value: Any) -> Any:
    """JSON as the type that a field has."""
    if isinstance(kind, type) and is_dataclass(kind):
        known = get_type_hints(kind)
        return kind(**{name: _built(known[name], each) for name, each in value.items() if name in known})
    if get_origin(kind) is Sequence and value is not None:
        return [_built(get_args(kind)[0], each) for each in value]
    return value
