"""People compare the answers of a finished run blind; what they say joins its report.

human/NAME/job.json            what is asked: kind, other model, questions, rows; fixed with the first rating
human/NAME/ratings/ANN.jsonl   everything that rater did, in order, each line on the disk before the next row is shown
human/NAME.json                scores, agreement and tables, as the report shows them
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from sartor.console import printable, table
from sartor.data.annotate.log import Log, named
from sartor.data.annotate.marks import Mark
from sartor.data.annotate.queue import Queue
from sartor.data.annotate.session import Session
from sartor.data.annotate.workspace import Board, Job
from sartor.errors import DataError, Problem, RecipeError, RunError
from sartor.evaluate import opinions, sheets
from sartor.evaluate.asking import CHOICES, KEYS, NAME, USUAL, Asked, Kind, Plan, order, sides, units
from sartor.evaluate.numbers import difference_text, range_text, score_text
from sartor.evaluate.outcomes import read_outcomes
from sartor.flow.rebuilt import FACTS, HUMAN, write
from sartor.store import atomic
from sartor.store.run import Run, find

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.protocols import Outcome

JOB, RATINGS = "job.json", "ratings"
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user names; None is what was begun, else what the recipe says, else the usual."""

    kind: str | None = None
    against: str | None = None
    questions: tuple[str, ...] | None = None
    rows: int | None = None
    reference: bool | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """One job of rating in a run."""

    run: Run
    asked: Asked
    guidelines: str
    confidence: float

    @property
    def name(self) -> str:
        """Of its folder and its part of the report."""
        return f"{self.asked.plan.kind}-{self.asked.plan.against}"

    @property
    def folder(self) -> Path:
        """Where ratings are kept."""
        return self.run.folder / HUMAN / self.name

    @property
    def sheet(self) -> str:
        """What the blind sheets of this job are known by."""
        return sheets.identity(self.asked, self.run.digest)

    @property
    def before(self) -> str:
        """How many rows decide, told before anybody rates."""
        return opinions.before(self.asked, self.confidence)

    def answers(self) -> dict[str, dict[str, Mark]]:
        """Rater -> unit -> what holds. Raises DataError A106 for a damaged log."""
        board = Board(self.folder / RATINGS)
        board.look()
        return {rater: dict(sheet.answers) for rater, sheet in board.sheets.items() if sheet.answers}

    def done(self, rater: str) -> int:
        """How many of the questions a rater has answered."""
        given = self.answers().get(rater, {})
        return sum(unit.item.key in given for unit in self.asked.units)


@dataclass(frozen=True, slots=True)
class Rated:
    """Where a job stands."""

    folder: str
    plan: Plan
    rows: int
    same: int
    raters: Mapping[str, int]
    """Rater -> questions answered."""
    questions: int
    """Questions to each rater, over all rows."""
    before: str
    told: Mapping[str, Any] | None
    """What the report shows; None where nobody has rated yet."""
    report: str | None
    """None where the run has kept no facts to write its report from."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "folder": self.folder,
            "plan": self.plan.json(),
            "rows": self.rows,
            "same": self.same,
            "raters": dict(self.raters),
            "questions": self.questions,
            "before": self.before,
            "told": self.told,
            "report": self.report,
        }

    def render(self, console: Console) -> None:
        """Who has rated how much, then what they say, then what it still takes."""
        for rater, done in self.raters.items():
            console.print(printable(f" {rater}   {done:,} of {self.questions:,} answered"), soft_wrap=True)
        if self.told is None:
            console.print(f" nobody has rated yet   {self.before}", soft_wrap=True)
            return
        against = self.plan.against
        lines = [_line(metric, against) for metric in self.told["comparison"]["metrics"]]
        console.print()
        table(console, ["question", against.replace("_", "-"), "tuned", "tuned's interval", "difference", ""], lines)
        console.print()
        for one in self.told["outlook"]:
            console.print(printable(f" {_outlook(one, self.plan.kind)}"), soft_wrap=True)
        for detail in self.told["comparison"]["details"]:
            if detail["title"] == opinions.AGREEMENT:
                console.print()
                table(
                    console, detail["columns"], [list(map(str, row)) for row in detail["models"][opinions.ALL]["rows"]]
                )
        if self.report:
            console.print(printable(f" report: {self.report}"), style="dim", soft_wrap=True)
        else:
            console.print(f" the report is as it was: this run has kept no {FACTS}", style="dim")


@dataclass(frozen=True, slots=True)
class Exported:
    """Blind sheets that were written."""

    files: tuple[str, ...]
    rows: int
    before: str

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {"files": list(self.files), "rows": self.rows, "before": self.before}

    def render(self, console: Console) -> None:
        """The files."""
        for file in self.files:
            console.print(printable(f" {file}"), soft_wrap=True)
        console.print(f" {self.rows:,} rows each   take the answers in with --import FILE...", soft_wrap=True)


def begin(reference: str, root: Path, wanted: Wanted, guidelines: Path | None = None) -> Desk:
    """The job of rating a run, begun or gone on with.

    Raises RunError F104, F105, E160 where there is nothing to rate, E161 where ratings were given to other questions,
    RecipeError E161 for questions that cannot be.
    """
    run = find(reference, root)
    if run.state != "finished":
        what = f"this run is {run.state}: people rate what a finished run has answered"
        raise RunError(Problem("E160", what, file=str(run.folder), fix="let it end first: the same command resumes it"))
    usual = _evaluate(run)
    plan, folder = _plan(run, wanted, usual.get(HUMAN) or {})
    asked = units(plan, _outcomes(run, plan.against), _outcomes(run, "tuned"))
    _something(run, asked)
    text = None
    if guidelines is not None:
        from sartor.flow.data_label import read_guidelines

        text = read_guidelines(guidelines)
    if text is not None:
        atomic.write_text(folder / "guidelines.md", text)
    elif (folder / "guidelines.md").exists():
        text = (folder / "guidelines.md").read_text(encoding="utf-8")
    atomic.write_json(folder / JOB, plan.json())
    return Desk(run, asked, text or "", float(usual.get("confidence", 0.95)))


@contextmanager
def rating(desk: Desk, rater: str, *, skipped: bool = False) -> Iterator[Session]:
    """A session of one rater; their log is held until the end of the block. Raises DataError A104, A105."""
    path = desk.folder / RATINGS / f"{named(rater)}.jsonl"
    with atomic.coded(path):
        log = Log(path)
    try:
        asked, plan = desk.asked, desk.asked.plan
        items = [unit.item for unit in asked.units]
        board = Board(path.parent)
        board.look()
        queue = Queue(items, order(asked, rater), frozenset(item.key for item in items), board, rater)
        if skipped:
            queue.again()

        def append(mark: Mark) -> None:
            with atomic.coded(path):
                log.append(mark)

        session = Session(
            rater,
            Job("label", CHOICES[plan.kind], ordinal=plan.kind == "likert", overlap=1.0, seed=plan.seed),
            queue,
            append,
            board,
            questions={unit.item.key: asked.question(unit.question) for unit in asked.units},
            keys=KEYS[plan.kind],
            shuffled=sides,
        )
        try:
            yield session
        finally:
            session.leave()
    finally:
        log.close()


def conclude(desk: Desk) -> Rated:
    """What the ratings so far say, put into the run folder and its report."""
    answers = desk.answers()
    told = tell(desk, answers)
    report = None
    if (desk.run.folder / FACTS).exists():
        report = str(write(desk.run).folder / "report.html")
    return Rated(
        folder=str(desk.folder),
        plan=desk.asked.plan,
        rows=desk.asked.rows,
        same=len(desk.asked.same),
        raters={rater: desk.done(rater) for rater in answers},
        questions=len(desk.asked.units),
        before=desk.before,
        told=told,
        report=report,
    )


def tell(desk: Desk, answers: opinions.Answers) -> dict[str, Any] | None:
    """What the ratings say, kept beside them for the report; None where there are none yet."""
    name = f"{HUMAN}-{desk.name}"
    told = opinions.told(desk.asked, answers, name=name, confidence=desk.confidence, resamples=RESAMPLES)
    path = desk.run.folder / HUMAN / f"{desk.name}.json"
    if told is not None:
        atomic.write_json(path, told)
    else:
        atomic.forget(path)
    return told


def refresh(reference: str, root: Path) -> None:
    """Work out again what the ratings of a run say, every job of it: a session that was killed has not done so."""
    run = find(reference, root)
    for path in sorted((run.folder / HUMAN).glob(f"*/{JOB}")):
        plan = _begun(path.parent)
        if plan is not None:
            desk = begin(str(run.folder), root, Wanted(plan.kind, plan.against))
            tell(desk, desk.answers())


def take_in(desk: Desk, files: Sequence[Path]) -> Rated:
    """Sheets that came back, written down as if they had been rated here; all of them or none.

    Raises DataError with everything that is wrong with any of them: E162 to E165, A105.
    """
    returned: list[sheets.Returned] = []
    problems: list[Problem] = []
    for file in files:
        with atomic.coded(file, verb="read"):
            content = file.read_bytes()
        try:
            returned.append(sheets.read(content, str(file), desk.asked, desk.sheet))
            named(returned[-1].rater)
        except DataError as fault:
            problems += fault.problems
    problems += sheets.same_rater(returned, {rater: len(given) for rater, given in desk.answers().items()})
    if problems:
        raise DataError(*problems)
    for one in returned:
        _keep(desk, one)
    return conclude(desk)


def _keep(desk: Desk, returned: sheets.Returned) -> None:
    path = desk.folder / RATINGS / f"{named(returned.rater)}.jsonl"
    items = {unit.item.key: unit.item for unit in desk.asked.units}
    with atomic.coded(path):
        log = Log(path)
        try:
            for number, one in enumerate(returned.answers, 1):
                mark = Mark(
                    number=number,
                    time=one.time if one.time is not None else round(time.time(), 3),
                    annotator=returned.rater,
                    row=one.id,
                    action="label",
                    label=one.choice,
                    order=sides(items[one.id], returned.rater, desk.asked.plan.seed),
                    seconds=one.seconds,
                )
                log.append(mark)
        finally:
            log.close()


def _evaluate(run: Run) -> dict[str, Any]:
    """The section `evaluate` of the run as it was resolved."""
    path = run.folder / "resolved.yaml"
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = body["evaluate"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as fault:
        raise RunError(Problem("F106", "the run's settings cannot be read", file=str(path))) from fault
    return found


def _plan(run: Run, wanted: Wanted, usual: Mapping[str, Any]) -> tuple[Plan, Path]:
    """What is asked, and the folder for it. Raises RunError E161."""
    kind = cast(Kind, wanted.kind or usual.get("kind") or "pairwise")
    against = wanted.against or usual.get("against") or "base"
    folder = run.folder / HUMAN / f"{kind}-{against}"
    before = _begun(folder)
    given = usual.get("questions") if kind == usual.get("kind") else None
    questions = wanted.questions or (before.questions if before else None)
    questions = questions or (USUAL[kind] if given in (None, "auto") else tuple(given or ()))
    strange = [name for name in questions if not NAME.fullmatch(name)]
    if strange or len(set(questions)) < len(questions):
        what = f'"{strange[0]}" cannot be the name of a question' if strange else "a question is named twice"
        fix = "use small letters, digits and _, such as accuracy, helpfulness, tone"
        raise RecipeError(Problem("E161", what, fix=fix))
    plan = Plan(
        kind=kind,
        against=against,
        questions=questions,
        rows=wanted.rows or (before.rows if before else 0) or int(usual.get("rows") or 100),
        seed=int(run.digest[:8], 16),
        reference=_first(wanted.reference, before.reference if before else None, bool(usual.get("reference"))),
    )
    if before is not None and any(path.stat().st_size for path in (folder / RATINGS).glob("*.jsonl")):
        changed = [name for name in ("questions", "reference") if getattr(before, name) != getattr(plan, name)]
        if changed or plan.rows < before.rows:
            name = changed[0] if changed else "rows"
            what = f"ratings were given here with other {name}: {_said(getattr(before, name))}, now {_said(getattr(plan, name))}"
            fix = f"leave {name} as it was; rows may be added, not taken away. For other questions, move {folder} elsewhere"
            raise RunError(Problem("E161", what, file=str(folder / JOB), fix=fix))
    return plan, folder


def _first(*values: bool | None) -> bool:
    return bool(next(value for value in values if value is not None))


def _said(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _begun(folder: Path) -> Plan | None:
    path = folder / JOB
    if not path.exists():
        return None
    try:
        return Plan.of_json(json.loads(path.read_bytes()))
    except (ValueError, TypeError, KeyError) as fault:
        fix = "restore it from a copy; the ratings beside it are untouched"
        raise RunError(Problem("F106", f"{JOB} is damaged", file=str(path), fix=fix)) from fault


def _outcomes(run: Run, model: str) -> list[Outcome]:
    path = run.folder / "predictions" / f"{model}.jsonl"
    if not path.exists():
        there = sorted(each.stem for each in path.parent.glob("*.jsonl") if each.stem != "tuned")
        what = f"this run has no answers of {model}"
        fix = f"--against {' or '.join(there)}" if there else "run the recipe again"
        raise RunError(Problem("E160", what, file=str(path), fix=fix))
    return read_outcomes(path)


def _something(run: Run, asked: Asked) -> None:
    """Raises RunError E160 where there is nothing to ask."""
    if asked.units:
        return
    if asked.drawn:
        what = f"both models gave the same answer to all {asked.drawn:,} rows, so there is nothing to choose between"
        fix = "look at more rows: --rows N, or rate them on a scale: --kind likert"
    else:
        what = "the models of this run wrote no text that people could read"
        fix = "ask for it in the recipe: evaluate: {human: {}}, or a metric of text"
    raise RunError(Problem("E160", what, file=str(run.folder / "predictions"), fix=fix))


def _line(metric: Mapping[str, Any], against: str) -> list[str]:
    share = metric["share"]
    ours, theirs, gain = metric["scores"]["tuned"], metric["scores"][against], metric["differences"][against]
    return [
        re.sub(r"^human_", "", metric["name"]),
        score_text(theirs["value"], share),
        score_text(ours["value"], share),
        range_text(ours["low"], ours["high"], share),
        difference_text(gain["value"], share),
        gain["word"],
    ]


def _outlook(one: Mapping[str, Any], kind: str) -> str:
    head = f"{one['question']}: {one['rows']:,} rows rated, "
    fair = f"a win rate of {one['fair']:.0%}" if kind == "pairwise" else f"a difference of {one['fair']:g}"
    if one["decided"]:
        return f"{head}decided: tuned is {one['decided']}"
    seen, more = one["more_for_seen"], one["more_for_fair"]
    parts = [
        *([f"if it is as seen, {seen:,} more decide it"] if seen is not None else []),
        *([f"{fair} takes {more:,} more" if more else f"{fair} would have been seen"] if more is not None else []),
    ]
    return f"{head}not decided; " + ("; ".join(parts) or "too few to tell how many more it takes")


def export(desk: Desk, files: Mapping[str, str]) -> Exported:
    """Write blind sheets; file -> content."""
    for file, content in files.items():
        atomic.write_text(Path(file), content)
    return Exported(tuple(files), desk.asked.rows, desk.before)


def sheet_files(file: Path, raters: Sequence[str]) -> dict[str, Path]:
    """Rater -> the file of their sheet: `sheet.csv`, or `sheet-ann.csv` where there are several. Raises DataError A105."""
    for rater in raters:
        named(rater)
    if len(raters) == 1:
        return {raters[0]: file}
    return {rater: file.with_name(f"{file.stem}-{rater}{file.suffix}") for rater in raters}
