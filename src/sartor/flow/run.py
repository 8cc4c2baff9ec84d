"""The main job: data, baseline, training, verdict. The same command on the same inputs resumes, and skips what is done."""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.advise.parallel import Processes
from sartor.data.pipeline import DROPPED
from sartor.data.versions import VERSION
from sartor.engine.trackers import jsonl
from sartor.errors import InputError, Interrupted, Problem, RunError, SartorError, raise_errors
from sartor.evaluate.suites import files as suite_files
from sartor.events import Event, Finished, Noted, Progressed, Stage
from sartor.flow.anchor import files as anchor_files
from sartor.flow.launch import Launch
from sartor.flow.prepare import Emit, Prepared, prepare
from sartor.flow.remeasure import forget
from sartor.flow.rivals import files as rival_files
from sartor.flow.rounds import RewardMetric
from sartor.flow.signals import Stop
from sartor.flow.stages import Stage as Trained
from sartor.flow.stages import asked_files, prepare_stages, resolved, starts, together, with_judges
from sartor.flow.writers import opener
from sartor.models.catalog import resolve
from sartor.options import NoOptions
from sartor.recipe.load import Loaded, load
from sartor.store import environment
from sartor.store.fingerprint import Fingerprint, compare, take
from sartor.store.run import Run

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.evaluate.compare import Comparison
    from sartor.evaluate.slices import Slices
    from sartor.flow.continual import Course
    from sartor.flow.export import Exported
    from sartor.flow.measure import Bench
    from sartor.flow.team import Team
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Metric, Outcome

ROOT = Path("runs")
FINGERPRINT = "fingerprint.json"
DATA_REPORT = "report.html"
FINISHED = "training.json"
"""What a stage took, in its folder."""
BASES = re.compile(r"base\.|recipe\.base\.add_tokens|recipe\.(stages\[\d+\]\.)?method\.")
OPTIMIZERS = re.compile(r"recipe\.((?:stages\[\d+\]\.)?train\.optimizer)\.(\w+)")
LIBRARIES = ("sartor", "torch", "transformers", "tokenizers", "peft", "numpy")


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run."""

    folder: Path
    verdict: Mapping[str, Any]
    comparison: Mapping[str, Any]
    resumed_finished: bool = False
    """Whether the run was already finished when it was asked for."""
    continual: Mapping[str, Any] | None = None
    suites: Sequence[Mapping[str, Any]] = ()
    """What safety measures, judges, benchmarks and exports found, as the report shows it."""
    """Every task after every stage, where that was measured."""

    @property
    def exit_code(self) -> int:
        """0 when every gate passed, else 1."""
        return 0 if self.verdict["pass"] else 1

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def json(self) -> dict[str, Any]:
        """verdict.json with the paths and the comparison."""
        return {
            **self.verdict,
            "folder": str(self.folder),
            "report": str(self.report),
            "comparison": self.comparison,
            **({} if self.continual is None else {"continual": self.continual}),
        }

    def render(self, console: Console) -> None:
        """The table of the verdict and where the report is."""
        from sartor.flow.verdict_table import render_verdict

        if self.resumed_finished:
            console.print(f"this run is finished already: {self.folder}", style="dim")
        render_verdict(console, self.verdict, self.comparison, self.suites)
        if self.continual is not None:
            from sartor.flow.continual import render

            render(console, self.continual)
        console.print(f"report: {self.report}", soft_wrap=True)


def run(
    path: Path,
    out: Path | None,
    overrides: Sequence[str],
    allow: Sequence[str],
    emit: Emit,
    *,
    launch: Launch | None = None,
) -> Ran:
    """Run a recipe to its verdict, in `out` or in a new folder under runs/, as rank 0 of `launch` or in one process.

    Raises InputError before anything is written, TrainingStopped, or Interrupted (saved; run it again to resume).
    """
    with launch or Launch() as ranks:
        return _run(path, out, overrides, allow, emit, ranks)


def _run(
    path: Path, out: Path | None, overrides: Sequence[str], allow: Sequence[str], emit: Emit, launch: Launch
) -> Ran:
    loaded = with_judges(load(path, overrides))
    fingerprint = _fingerprint(loaded)
    name = loaded.recipe.name or path.stem
    processes = Processes.of(launch.size, os.environ)
    with tempfile.TemporaryDirectory(prefix="sartor-data-") as scratch:
        ready = None if _existing(out, fingerprint) else _Ready.make(loaded, Path(scratch) / "data", emit, processes)
        about = ready.about if ready else {}
        folder = (
            Run.into(out, name, fingerprint.digest, about=about)
            if out
            else Run.create(ROOT, name, fingerprint.digest, about=about)
        )
        with folder:
            if folder.state == "finished":
                return _finished(folder)
            return _Session(folder, loaded, fingerprint, tuple(allow), emit, ready, launch).go()


def _existing(out: Path | None, fingerprint: Fingerprint) -> bool:
    """Whether this recipe has a folder already, so that its inputs were found good before."""
    if out is not None:
        return (out / FINGERPRINT).exists()
    return any(found.parent.name.endswith(fingerprint.digest[:8]) for found in ROOT.glob(f"*/{FINGERPRINT}"))


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a new run begins with, prepared outside of its folder, so that faulty input leaves nothing behind."""

    prepared: Prepared
    """What the verdict is about."""
    stages: tuple[Trained, ...]
    tools: Bench
    folder: Path
    notes: list[Noted]
    tasks: Course
    """What every stage is about, where that is measured after each of them."""

    @classmethod
    def make(
        cls, loaded: Loaded, folder: Path, emit: Emit, processes: Processes, now: datetime | None = None
    ) -> _Ready:
        """Prepare everything in `folder`. Raises InputError."""
        from sartor.flow.continual import of_run as tasks_of
        from sartor.flow.measure import bench

        notes: list[Noted] = []

        def hear(event: Event) -> None:
            if isinstance(event, Noted):
                notes.append(event)
            else:
                emit(event)

        models = opener(loaded.root)
        prepared = prepare(loaded, folder, hear, now=now, processes=processes, models=models)
        stages = prepare_stages(loaded, prepared, folder, hear, now=now, processes=processes, models=models)
        tools = bench(prepared, hear)
        return cls(
            prepared, stages, tools, folder, notes, tasks_of(loaded, stages, tools, prepared.resolution, prepared)
        )

    @property
    def about(self) -> dict[str, str]:
        """What the history shows of this run."""
        settings = self.prepared.settings
        base = self.prepared.loaded.recipe.base.model
        objective = " > ".join(stage.name for stage in self.stages)
        return {"base": base, "method": settings.method.name, "objective": objective}

    def move(self, to: Path) -> None:
        """Put the prepared rows into the run folder."""
        if to.exists():
            shutil.rmtree(to)
        shutil.move(self.folder, to)


def _fingerprint(loaded: Loaded) -> Fingerprint:
    from sartor.data.reading import expand

    recipe = loaded.recipe
    told = recipe.model_dump(mode="json")
    if loaded.listed:
        parts = [stage.recipe.model_dump(mode="json") for stage in loaded.stages]
        told["stages"] = [{key: part[key] for key in ("data", "method", "train")} for part in parts]
    every = [recipe.data, *(stage.recipe.data for stage in loaded.stages)]
    base = resolve(recipe.base.model, loaded.root, revision=recipe.base.revision)
    files = {
        str(file.relative_to(loaded.root) if file.is_relative_to(loaded.root) else file): file
        for data in every
        for path in (*(source.path for source in data.sources), *data.against)
        for file in expand(path, loaded.root)
    }
    files |= {f"anchor {file}": file for stage in loaded.stages for file in anchor_files(stage)}
    for stage in loaded.stages:
        files |= asked_files(stage)
    files |= {f"rival {name}": file for name, file in rival_files(loaded).items()}
    files |= {
        f"suite {file.relative_to(loaded.root) if file.is_relative_to(loaded.root) else file}": file
        for path in suite_files(recipe.evaluate)
        for file in expand(path, loaded.root)
    }
    template = loaded.root / recipe.base.template if recipe.base.template else None
    home = base.path if (base.path / "tokenizer.json").exists() else base.root.path
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    threads = recipe.train.threads
    return take(
        recipe=told,
        data=files,
        base=base.path,
        template=template.read_text(encoding="utf-8") if template and template.exists() else None,
        tokenizer=[home / file for file in names if (home / file).exists()],
        dtype=recipe.base.dtype,
        threads=environment.cores() if threads == "auto" else threads,
        versions=environment.versions(LIBRARIES),
        processor=environment.processor(),
    )


def _held(old: Fingerprint, new: Fingerprint) -> list[Problem]:
    """Changes nobody can allow, because the checkpoints would not fit: of the base, the method and the kind of optimiser."""
    changed = [
        key for key in sorted(old.fields.keys() | new.fields.keys()) if old.fields.get(key) != new.fields.get(key)
    ]
    held = [key for key in changed if BASES.match(key)]
    kinds = [{found.groups() for key in each.fields if (found := OPTIMIZERS.match(key))} for each in (old, new)]
    held += sorted({f"recipe.{key}" for key, _ in kinds[0] ^ kinds[1]})
    return [
        Problem(
            "F120",
            f"{key.removeprefix('recipe.')} has changed, and what was trained so far would not fit it",
            fix="change it back, or start a new run with another --out",
        )
        for key in held
    ]


def _finished(folder: Run) -> Ran:
    verdict, comparison = folder.read_json("verdict.json"), folder.read_json("comparison.json")
    if verdict is None or comparison is None:
        raise RunError(Problem("F106", "a finished run without verdict.json", file=str(folder.folder)))
    from sartor.flow.rebuilt import FACTS

    told = folder.read_json(FACTS) or {}
    return Ran(
        folder.folder,
        verdict,
        comparison,
        resumed_finished=True,
        continual=folder.read_json("continual.json"),
        suites=told.get("suites", ()),
    )


class _Session:
    """One sitting of a run: from wherever it stands to its verdict."""

    def __init__(
        self,
        folder: Run,
        loaded: Loaded,
        fingerprint: Fingerprint,
        allow: tuple[str, ...],
        show: Emit,
        ready: _Ready | None,
        launch: Launch,
    ) -> None:
        self.run, self.loaded, self.fingerprint, self.allow, self.show = folder, loaded, fingerprint, allow, show
        self.ready, self.launch = ready, launch
        self.tracker = jsonl.build(folder, NoOptions())
        self.timing: dict[str, float] = {}
        self.stop = Stop()

    def emit(self, event: Event) -> None:
        """Log and show; progress within a stage is only shown."""
        if not isinstance(event, Progressed):
            self.tracker.see(event)
        self.show(event)

    def go(self) -> Ran:
        """Every stage in order."""
        self._same_inputs()
        self.run.mark("running")
        try:
            with self.stop:
                return self._stages()
        except KeyboardInterrupt as fault:
            raise Interrupted(Problem("F150", "stopped; what is done is saved", fix=self._again())) from fault
        except Interrupted as fault:
            raise Interrupted(*(_with_fix(problem, self._again()) for problem in fault.problems)) from fault
        except SartorError as fault:
            self.run.mark("failed", fault.problems[0].code)
            raise

    def _again(self) -> str:
        return f"the same command resumes it ({self.run.folder})"

    def _same_inputs(self) -> None:
        old = self.run.read_json(FINGERPRINT)
        if old is None:
            self.run.write_json(FINGERPRINT, self.fingerprint.json())
            self.run.write_text("recipe.yaml", self.loaded.text)
            self.run.write_json("overrides.json", list(self.loaded.overrides))
            seeds = {"recipe": self.loaded.recipe.seed, "split": self.loaded.recipe.data.split.seed}
            self.run.write_json("environment.json", {**environment.facts(), "seeds": seeds})
            return
        problems = compare(Fingerprint(old), self.fingerprint, allow=self.allow)
        raise_errors(RunError, problems)
        raise_errors(RunError, _held(Fingerprint(old), self.fingerprint))
        for problem in problems:
            self.emit(Noted(problem.level, problem.code, problem.what))
        if any(problem.code == "F122" for problem in problems):
            forget(self.run.folder, old, self.fingerprint.fields)
            (self.run.folder / "data" / DATA_REPORT).unlink(missing_ok=True)
            self.run.write_json(FINGERPRINT, self.fingerprint.json())

    @contextmanager
    def _stage(self, name: str, detail: str = "") -> Iterator[None]:
        self.emit(Stage(name, detail))
        began = time.monotonic()
        yield
        self.timing[name] = round(self.timing.get(name, 0.0) + time.monotonic() - began, 3)

    def _stages(self) -> Ran:
        with self._stage("data"):
            ready = self._data()
        outcomes = self._baseline_and_training(ready)
        exported = self._export()
        from sartor.evaluate.charts import charts
        from sartor.flow.answers import names_of
        from sartor.flow.slices import slices_of

        with self._stage("verdict"):
            metrics, called = self._metrics(ready), names_of(ready.prepared)
            comparison = self._compare(metrics, outcomes, called)
            slices = slices_of(self.loaded.recipe, metrics, outcomes, called)
            if slices is not None:
                comparison = comparison.with_slices(slices.json())
            drawn = [chart.json() for chart in charts(outcomes, metrics)]
            return self._conclude(ready, comparison, slices, outcomes["tuned"], exported, drawn)

    def _export(self) -> Exported | None:
        """The forms that the recipe asks for; those of an earlier sitting stay."""
        from sartor.flow.export_run import exports_of

        if not self.loaded.recipe.export:
            return None
        with self._stage("export", ", ".join(each.name for each in self.loaded.recipe.export)):
            return exports_of(self.loaded.recipe, self.run.folder, self.emit)

    def _data(self) -> _Ready:
        data = self.run.folder / "data"
        if self.ready is None:
            ready = _Ready.make(
                self.loaded,
                data,
                self.emit,
                Processes.of(self.launch.size, os.environ),
                now=datetime.fromtimestamp(self.run.created),
            )
        else:
            ready = self.ready
            ready.move(data)
        for note in ready.notes:
            self.emit(note)
        self.run.write_text("resolved.yaml", resolved(ready.prepared, ready.stages))
        from sartor.flow.facts import rows_told

        for stage in ready.stages:
            stage.prepared.rows.write(stage.data(self.run))
        ready.prepared.rows.write(data)
        self.emit(Noted("info", "N414", rows_told(ready.prepared, data / DROPPED)))
        if not (data / DATA_REPORT).exists():
            from sartor.flow.data_report import of_run

            self.run.write_text(f"data/{DATA_REPORT}", of_run(ready.prepared))
        self.run.write_json(f"data/{VERSION}", ready.prepared.version.json())
        return ready

    def _baseline_and_training(self, ready: _Ready) -> dict[str, list[Outcome]]:
        from sartor.flow.continual import measure as measure_tasks
        from sartor.flow.measure import measure, whole
        from sartor.flow.shots import fewest_shots, tries
        from sartor.flow.suites import measure as measure_suites
        from sartor.flow.suites import missing
        from sartor.flow.train import open_rival
        from sartor.models.load import load as load_model

        prepared, tools = ready.prepared, ready.tools

        outcomes: dict[str, list[Outcome]] = {}
        rivals = tools.rivals
        model = self.run.folder / "model"
        done = (model / "COMPLETE").exists()
        policy = None
        if rivals.others:
            with self._stage("baseline", ", ".join(rivals.others)):
                for name in rivals.others:
                    outcomes[name] = measure(name, None, tools, prepared, self.run, self.emit)
        unmeasured = "base" in rivals.names and missing(tools, self.run, "base")
        if not done or unmeasured or not all(whole(self.run, name, tools) for name in rivals.of_base):
            policy = open_rival(prepared, self.emit)
        if tries(tools, prepared):
            with self._stage("shots"):
                tools = fewest_shots(tools, policy, prepared, self.run, self.emit)
        with self._stage("baseline", ", ".join(rivals.of_base)):
            for name in rivals.of_base:
                outcomes[name] = measure(name, policy, tools, prepared, self.run, self.emit)
            if "base" in rivals.names:
                measure_suites("base", policy, outcomes["base"], tools, prepared, self.run, self.emit)
        self.run.write_text("resolved.yaml", resolved(ready.prepared, ready.stages))
        outcomes = {name: outcomes[name] for name in rivals.names}
        tools.suites.ground.known.update(outcomes)
        if not done:
            reusable = ready.stages[0].prepared is prepared and prepared.settings.head is None
            self._train_all(ready, policy if reusable else None)
        del policy
        gc.collect()
        if ready.tasks.tasks:
            with self._stage("tasks"):
                for stage in ready.stages:
                    measure_tasks(ready.tasks, stage.number, self.run, self.emit)
        with self._stage("evaluate", "tuned"):
            settings = prepared.settings
            tuned = None
            if not whole(self.run, "tuned", tools) or missing(tools, self.run, "tuned"):
                tuned = load_model(
                    resolve(str(model.resolve()), Path("/")), dtype=settings.dtype, device=settings.device
                )
            outcomes["tuned"] = measure("tuned", tuned, tools, prepared, self.run, self.emit)
            measure_suites("tuned", tuned, outcomes["tuned"], tools, prepared, self.run, self.emit)
        return outcomes

    def _train_all(self, ready: _Ready, policy: ModelPolicy | None) -> None:
        """Every stage that has no model yet; `policy`, where given, is the base as the first one begins with it."""
        if len(ready.stages) > 1 and self.launch.size > 1 and self.launch.started:
            what = f"a launcher has started {self.launch.size} processes, which can train one stage, not a list of them"
            fix = "sartor run RECIPE --processes N starts them anew for every stage"
            raise InputError(Problem("P116", what, fix=fix))
        for stage, start in starts(ready.stages, self.run):
            if not stage.finished(self.run):
                with self._stage("train", stage.told):
                    self._train(stage.judged(ready.stages, self.run).beginning_with(start), policy, ready.tools)
            policy = None
            gc.collect()

    def _train(self, stage: Trained, policy: ModelPolicy | None, tools: Bench) -> None:
        from sartor.flow.answers import calibrate
        from sartor.flow.steer import BASE, of_base
        from sartor.flow.train import attach, open_base, publish_model, train

        prepared, folder = stage.prepared, stage.folder(self.run)
        policy = policy or open_base(prepared, self.emit)
        attach(prepared, policy)
        of_base(folder, sorted(self.run.folder.glob(f"stages/*/{BASE}")))
        self.stop.training = True
        with self._team(stage, tools) as team:
            if not team.world.alone:
                self.emit(Noted("info", "P125", f"{team.world.size} processes train together"))
            finished = train(
                prepared,
                policy,
                folder,
                team.hear(self.emit),
                tools=tools,
                owner=self.run.digest,
                stop_asked=self.stop.asked,
                world=team.world,
                last=stage.last,
            )
        self.stop.training = False
        self.run.write_json(str(folder.relative_to(self.run.folder) / FINISHED), asdict(finished))
        calibrate(prepared, policy, self.emit)
        publish_model(prepared, policy, stage.model(self.run), best_step=finished.best_step, run=self.run.folder)
        if self.stop.asked():
            raise KeyboardInterrupt

    def _team(self, stage: Trained, tools: Bench) -> AbstractContextManager[Team]:
        from sartor.flow.handover import hand_over

        settings, folder = stage.prepared.settings, stage.folder(self.run)
        return self.launch.team(
            lambda: hand_over(stage.prepared, tools, self.run, folder, number=stage.number, data=stage.data(self.run)),
            self.run.folder / "recipe.yaml",
            folder,
            stop=self.stop,
            device=settings.device,
            threads=settings.threads,
        )

    def _metrics(self, ready: _Ready) -> list[Metric]:
        """The metrics of the verdict; a reward is told by the reward models of this run, which are there by now."""
        stage = next((stage for stage in ready.stages if stage.prepared is ready.prepared), None)
        if stage is None:
            return list(ready.tools.metrics)
        judged = stage.judged(ready.stages, self.run).prepared
        return [each.told_by(judged) if isinstance(each, RewardMetric) else each for each in ready.tools.metrics]

    def _compare(
        self, metrics: Sequence[Metric], outcomes: Mapping[str, Sequence[Outcome]], called: Mapping[str, str]
    ) -> Comparison:
        from sartor.evaluate.compare import compare as compare_models

        evaluate = self.loaded.recipe.evaluate
        return compare_models(
            outcomes,
            metrics,
            confidence=evaluate.confidence,
            resamples=evaluate.resamples,
            seed=self.loaded.recipe.seed,
            correction=evaluate.correction,
            test=evaluate.test,
            called=called,
        )

    def _conclude(
        self,
        ready: _Ready,
        comparison: Comparison,
        slices: Slices | None,
        tuned: Sequence[Outcome],
        exported: Exported | None,
        drawn: Sequence[Mapping[str, Any]],
    ) -> Ran:
        from sartor.evaluate.report import report
        from sartor.evaluate.report_markdown import report_markdown
        from sartor.evaluate.verdict import judge
        from sartor.export.card import model_card
        from sartor.flow.answers import base_called
        from sartor.flow.continual import told as tasks_told
        from sartor.flow.export_run import bodies, with_exports
        from sartor.flow.facts import report_facts, stage_curves
        from sartor.flow.forecast import forecast, learn
        from sartor.flow.rebuilt import FACTS, kept
        from sartor.flow.suites import compared

        prepared, tools = ready.prepared, ready.tools
        each = [
            Finished(**self.run.read_json(str(stage.folder(self.run).relative_to(self.run.folder) / FINISHED)))
            for stage in ready.stages
        ]
        finished = together(each)
        train = {
            "steps": finished.step,
            "best_step": finished.best_step,
            "tokens": finished.tokens,
            "supervised_tokens": finished.supervised,
            "seconds": finished.seconds,
            "tokens_per_second": round(finished.tokens / finished.seconds, 1) if finished.seconds else None,
            "peak_memory_bytes": finished.peak_memory_bytes,
        }
        suites = compared(tools, prepared, self.run)
        continual = tasks_told(ready.tasks, tuned, self.run)
        gates = self.loaded.recipe.goal.success
        verdict = judge(
            gates,
            comparison,
            base=base_called(prepared),
            suites=list(suites.values()),
            besides=self.loaded.recipe.further_gates,
            slices=slices,
        )
        verdict = with_exports(verdict, exported)
        body = verdict.json(train=train, model=str((self.run.folder / "model").resolve()))
        foreseen = forecast(prepared, tools)
        if self.loaded.recipe.evaluate.human is not None:
            self.emit(Noted("info", "E166", f"people can compare the answers now: sartor human {self.run.folder}"))
        curves = stage_curves(self.run, ready.stages, each)
        facts = report_facts(self.run, prepared, body, comparison, curves, finished, self.timing, foreseen)
        facts = replace(facts, suites=[*facts.suites, *bodies(exported)], charts=drawn)
        if len(each) == 1:
            learn(self.run, prepared, tools, finished, self.timing)
        self.run.write_json("comparison.json", comparison.json())
        self.run.write_json(FACTS, kept(facts))
        self.run.write_text("report.html", report(facts))
        self.run.write_text("report.md", report_markdown(facts))
        self.run.write_text("model_card.md", model_card(facts))
        self.run.write_text("model/README.md", model_card(facts))
        self.run.write_json("verdict.json", body)
        self.run.mark("finished")
        return Ran(self.run.folder, body, comparison.json(), continual=continual, suites=facts.suites)


def _with_fix(problem: Problem, fix: str) -> Problem:
    return replace(problem, fix=fix)
