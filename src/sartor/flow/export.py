"""Exports: a model in other forms, each with a certificate of what it still does, whole in its folder or not there.

DIR/NAME/           the artifact, certificate.json, CERTIFICATE.md, COMPLETE
DIR/NAME.failed/    the same where the certificate failed, kept to be looked at; it has no COMPLETE, so nobody takes it
RUN/probes/         what every form is held against; DIR/probes/ where the model is no run
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor import __version__, registry
from sartor.console import printable, size
from sartor.data.dataset import Dataset
from sartor.errors import ModelError, Problem
from sartor.evaluate import metrics as measures
from sartor.evaluate.compare import compare
from sartor.events import Event, Noted, Progressed, Stage
from sartor.export import certificate as certificates
from sartor.export import probes as probing
from sartor.export.certificate import BOUNDS, Certificate, Check
from sartor.export.replay import Replayed, Unopened, replay_apart
from sartor.export.source import Source
from sartor.flow.merge import facts_of, named
from sartor.flow.model import find
from sartor.flow.prepare import renderer_for
from sartor.models.heads import HeadSpec
from sartor.models.kinds import TOLD, kind_of
from sartor.recipe.schema import Component
from sartor.store import atomic
from sartor.store.fingerprint import of_text
from sartor.store.lock import Lock
from sartor.store.run import is_run

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.data.rows import Row
    from sartor.export.probes import Probes
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Metric

Emit = Callable[[Event], None]
FOLDER, PROBES, FAILED = "exports", "probes", ".failed"
GENERAL = "builtin:general-probe"
"""What a model is asked that comes without rows of its own."""
RESAMPLES = 2000
VERSION = 1
"""Of what is written; a higher one makes artifacts anew."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One form of the model."""

    name: str
    folder: Path
    state: str
    """certified, unchanged or failed"""
    certificate: Certificate

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "certificate": self.certificate.json(),
        }


@dataclass(frozen=True, slots=True)
class Exported:
    """All forms that were asked for."""

    model: str
    artifacts: tuple[Artifact, ...]
    push: Mapping[str, Any] | None = None
    """What went to the hub, or would go there."""

    @property
    def exit_code(self) -> int:
        """1 where a certificate failed."""
        return 0 if all(each.certificate.passed for each in self.artifacts) else 1

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "model": self.model,
            "pass": self.exit_code == 0,
            "artifacts": [each.json() for each in self.artifacts],
            **({} if self.push is None else {"push": dict(self.push)}),
        }

    def render(self, console: Console) -> None:
        """The certificate of each, and where it lies."""
        for each in self.artifacts:
            each.certificate.render(console)
            console.print(printable(f" {each.state}: {each.folder}"), soft_wrap=True)
        if self.push is not None:
            word = "would go to" if self.push["dry_run"] else "went to"
            for file in self.push["files"]:
                console.print(printable(f" {file['bytes']:>14,}  {file['name']}"), soft_wrap=True)
            told = f" {len(self.push['files'])} files, {size(self.push['bytes'])}, {word} {self.push['repository']}"
            console.print(printable(told), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Questions:
    """Rows that probes are made of, and what their answers are judged by."""

    rows: Sequence[Row]
    metrics: Sequence[Metric]
    max_new_tokens: int
    told: str


def export(
    reference: str,
    wanted: Sequence[Component],
    *,
    out: Path | None = None,
    data: str | None = None,
    force: bool = False,
    emit: Emit,
) -> Exported:
    """Write `reference` in every form that is wanted, and certify each.

    Args:
        reference: a run, a model or adapter folder, a hub id or sartor/nano.
        wanted: exporters with their options.
        out: folder that gets one folder for each; RUN/exports, or exports/MODEL in this folder.
        data: rows to ask, for a model that is no run; the built-in general questions.
        force: also what is there and unchanged.

    Raises:
        ModelError: M200 a kind of model that is not exported, M201 one that cannot be exported so, M203 a library that is
            not installed; what reading the model raises. RunError F101: another process exports into `out`.
    """
    for each in wanted:
        _require(each)
    folder = find(reference, Path.cwd())
    _writes(folder)
    run = folder.path.parent if is_run(folder.path.parent) else None
    out = out or (run / FOLDER if run else Path(FOLDER) / (Path(folder.reference).name or "model"))
    atomic.make_folder(out)
    lock = Lock(out)
    try:
        atomic.tidy(out)
        card = run / "model_card.md" if run else folder.path / "README.md"
        source = Source(folder, renderer_for(folder), facts_of(folder), card)
        questions = _of_run(run, source) if run and data is None else _of_file(data or GENERAL, source)
        origin = _identity(source)
        kept = (run or out) / PROBES
        probes = _probes(source, questions, kept, origin, emit)
        made = [_one(source, each, out / each.name, probes, kept, questions, origin, force, emit) for each in wanted]
    finally:
        lock.release()
    return Exported(folder.reference, tuple(made))


def _require(wanted: Component) -> None:
    library, extra = registry.component("exporter", wanted.name).NEEDS
    if library and find_spec(library) is None:
        what = f"exporter {wanted.name} needs the library {library}, which is not installed"
        raise ModelError(Problem("M203", what, fix=f'pip install "sartor[{extra}]"'))


def _writes(folder: ModelFolder) -> None:
    """Raises ModelError M200 for a model that does not continue text."""
    kind = kind_of(folder)
    head = HeadSpec.of(folder.path, {}) or HeadSpec.of(folder.root.path, folder.root.config)
    if kind == "causal" and head is None:
        return
    what = f"a model with a head of {head.kind}" if head else TOLD[kind]
    fix = "use its folder as it is: it is a plain transformers or PEFT folder"
    raise ModelError(Problem("M200", f"{what} is not exported in this version", file=str(folder.path), fix=fix))


def _identity(source: Source) -> dict[str, Any]:
    """What decides what the model computes."""
    folder = source.folder
    return {
        "model": folder.reference,
        "sha256": named(folder, None)["sha256"],
        "renderer": source.renderer.fingerprint,
        "stop_ids": source.stop_ids,
    }


def _of_run(run: Path, source: Source) -> Questions:
    """Validation rows of a run, and its own metrics as far as they judge texts. Test rows stay closed."""
    from sartor.recipe.load import load as load_recipe
    from sartor.tokens.store import TokenSet

    data = run / "data"
    held = np.unique(TokenSet.open(data / "tokens" / "validation").rows)
    if not len(held):
        return _of_file(GENERAL, source)
    dataset, recipe = Dataset.open(data), load_recipe(run / "resolved.yaml").recipe
    order = np.random.default_rng([recipe.seed, 6]).permutation(held)
    rows = [dataset[int(index)] for index in order[: 4 * probing.MOST]]
    own = () if recipe.evaluate.metrics == "auto" else recipe.evaluate.metrics
    task = str(source.facts.get("task") or "generate")
    length = recipe.evaluate.max_new_tokens
    return Questions(
        rows,
        _judging(measures.load(list(own), Path.cwd()), task),
        probing.LONGEST_ANSWER if length == "auto" else length,
        "validation rows",
    )


def _of_file(data: str, source: Source) -> Questions:
    from sartor.flow.eval import rows_of

    rows = list(rows_of(data, Path.cwd()))
    task = "generate"
    references = [row.answer_text() for row in rows[:200]]
    metrics = measures.load(measures.defaults(task, references), Path.cwd())
    order = np.random.default_rng(6).permutation(len(rows))[: 4 * probing.MOST]
    return Questions([rows[int(index)] for index in order], _judging(metrics, task), 32, f"rows of {data}")


def _judging(metrics: Sequence[Metric], task: str) -> list[Metric]:
    """Those that need a text or its likelihood; labels and numbers are then read from the text."""
    kept = [each for each in metrics if measures.wants([each], "generate") <= {"prediction", "nll"}]
    return [each for each in kept if each.needs != "probabilities"]


def _probes(source: Source, questions: Questions, folder: Path, origin: dict[str, Any], emit: Emit) -> Probes:
    """Those that are kept, where the model is still the same; else they are made."""
    about = {**origin, "rows": questions.told, "version": VERSION}
    try:
        if all(atomic.seal(folder)["about"].get(key) == value for key, value in about.items()):
            return probing.kept(folder)
    except ValueError:
        pass
    from sartor.export.runtimes.own import in_fp32, opened

    emit(Stage("probes", questions.told))
    policy = opened(source.folder)
    in_fp32(policy)
    asked = probing.asked(questions.rows, source.renderer, window=policy.window)
    if not asked:
        what = f"none of the {questions.told} makes a probe: too long, or with control tokens in their texts"
        raise ModelError(Problem("M202", what, fix="--data FILE with ordinary rows"))
    made = probing.record(
        policy, source.renderer, asked, max_new_tokens=questions.max_new_tokens,
        told=lambda done: emit(Progressed("probes", done, len(asked))),
    )  # fmt: skip
    probing.keep(made, folder, about)
    return made


def _one(
    source: Source, wanted: Component, place: Path, probes: Probes, kept: Path, questions: Questions,
    origin: dict[str, Any], force: bool, emit: Emit,
) -> Artifact:  # fmt: skip
    """One artifact, unless it is there already."""
    options = wanted.options.model_dump(mode="json")
    inputs = {**origin, "options": options, "sartor": __version__, "version": VERSION}
    if not force:
        found = _there(place, inputs)
        if found is not None:
            return Artifact(wanted.name, place, "unchanged", found)
    emit(Stage("export", wanted.name))
    module = registry.component("exporter", wanted.name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{atomic.TEMPORARY}export-") as scratch:
        made = Path(scratch) / place.name
        made.mkdir()
        facts = module.write(source, made, wanted.options)
        told = {**inputs, **facts, "seconds_to_write": round(time.monotonic() - began, 3)}
        checked = _certify(source, wanted, made, probes, kept, questions, told, Path(scratch))
        (made / certificates.FILE).write_text(certificates.dumps(checked), encoding="utf-8")
        (made / certificates.TABLE).write_text(checked.markdown(), encoding="utf-8")
        failed = place.with_name(place.name + FAILED)
        if failed.exists():
            shutil.rmtree(failed)
        if not checked.passed:
            shutil.move(made, failed)
            why = "; ".join(f"{check.name}: {check.why or check.value}" for check in checked.failed)
            emit(Noted("warning", "M204", f"{wanted.name} failed its certificate and is not promoted: {why}"))
            return Artifact(wanted.name, failed, "failed", checked)
        files = {file.name: partial(_move, file) for file in sorted(made.iterdir())}
        atomic.publish(place, files, about={"inputs": inputs})
    return Artifact(wanted.name, place, "certified", checked)


def _there(place: Path, inputs: dict[str, Any]) -> Certificate | None:
    """The certificate of an artifact that is whole, passed, and was made of the same inputs."""
    try:
        same = atomic.seal(place)["about"].get("inputs") == json.loads(json.dumps(inputs))
    except ValueError:
        return None
    if not same or atomic.verify(place):
        return None
    return certificates.read(json.loads((place / certificates.FILE).read_text(encoding="utf-8")))


def _certify(
    source: Source, wanted: Component, made: Path, probes: Probes, kept: Path, questions: Questions,
    facts: dict[str, Any], scratch: Path,
) -> Certificate:  # fmt: skip
    """Hold an artifact against the probes through its own runtime."""
    module = registry.component("exporter", wanted.name)
    precision = module.precision(source, wanted.options)
    found: list[Check] = []
    runtime = "no runtime"
    inspect = getattr(module, "inspect", None)
    if inspect is not None:
        found += inspect(source, made, wanted.options)
    if getattr(module, "replays", _always)():
        answers = scratch / "answers"
        answers.mkdir()
        try:
            replayed = replay_apart(wanted.name, made, kept, answers)
            runtime = replayed.runtime
            found += certificates.checks(probes, replayed, precision)
            comparison = scores(source, probes, replayed, questions)
            found += certificates.score(comparison, BOUNDS[precision])
            facts = {**facts, "comparison": comparison}
        except Unopened as fault:
            found += certificates.unopened(str(fault))
    else:
        runtime = module.WITHOUT
    bytes_ = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
    found.append(Check("size", size(bytes_), "", None, "all files", {"bytes": bytes_}))
    told = {
        **facts,
        "probes": {"rows": len(probes.each), "of": questions.told, "sha256": of_text(str(probes.first.sum()))},
    }
    return Certificate(wanted.name, precision, runtime, tuple(found), told)


def _always() -> bool:
    return True


def scores(source: Source, probes: Probes, found: Replayed, questions: Questions) -> dict[str, Any]:
    """Source and artifact on the probes' rows, with paired intervals."""
    texts = [source.renderer.text(ids) for ids in found.generated]
    ended = [bool(ids) and ids[-1] in probes.stop_ids for ids in found.generated]
    outcomes = {
        "source": probing.outcomes(
            probes, [one.text for one in probes.each], [one.nll for one in probes.each],
            [one.stopped for one in probes.each],
        ),
        "artifact": probing.outcomes(probes, texts, found.nll, ended),
    }  # fmt: skip
    outcomes = {name: [replace(one, id=str(at)) for at, one in enumerate(each)] for name, each in outcomes.items()}
    return compare(outcomes, questions.metrics, resamples=RESAMPLES).json()


def _move(file: Path, to: Path) -> None:
    shutil.move(file, to)
