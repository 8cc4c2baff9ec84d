"""Gathers from a run folder what its report and its model card tell."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.console import REWARD, size
from sartor.data.ledger import entries
from sartor.data.pipeline import DROPPED
from sartor.engine.watchers.forgetting import ERROR
from sartor.evaluate import suites
from sartor.evaluate.facts import (
    Cleaned,
    Curve,
    DataFacts,
    DataFile,
    Dropped,
    Foreseen,
    Forgetting,
    Made,
    ReportFacts,
    Said,
    Sample,
    Setting,
)
from sartor.evaluate.front import Axes, Point, front
from sartor.flow.continual import RESULT
from sartor.flow.forecast import measuring_seconds
from sartor.flow.measure import accesses
from sartor.flow.steer import STEERING
from sartor.flow.suites import shown
from sartor.recipe.schema import GENERAL

if TYPE_CHECKING:
    from sartor.evaluate.compare import Comparison
    from sartor.events import Finished
    from sartor.flow.forecast import Forecast
    from sartor.flow.prepare import Prepared
    from sartor.flow.stages import Stage
    from sartor.store.run import Run

SAMPLES = 3
TABLES = ("D190", "D196")
"""Findings that the report shows as tables: what cleaning did, what augmentation made."""
SAID = 3
"""Answers with the highest rewards that are shown of a round, and as many with the lowest."""
REASONS = 30
"""Reasons to leave rows out that are listed."""
PLACE = re.compile(r"(?<=\S):\d+$")
"""The line in `belongs with the held-out row test.jsonl:17`."""


def report_facts(
    run: Run,
    prepared: Prepared,
    verdict: Mapping[str, Any],
    comparison: Comparison,
    curves: Sequence[Curve],
    finished: Finished,
    timing: Mapping[str, float],
    foreseen: Forecast,
) -> ReportFacts:
    """Everything the report of a run shows."""
    recipe = prepared.loaded.recipe
    events = list(run.events())
    return ReportFacts(
        title=run.name,
        verdict=verdict,
        comparison=comparison.json(),
        continual=run.read_json(RESULT),
        suites=shown(run, list(suites.chosen(recipe.evaluate))),
        statement=recipe.goal.statement or "",
        task=prepared.settings.task,
        base=recipe.base.model,
        method=prepared.settings.method.name,
        created=time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created)),
        curves=curves,
        data=_data(prepared, run.folder / "data" / DROPPED),
        settings=[Setting(key, entry["value"], entry["why"]) for key, entry in prepared.resolution.json().items()],
        environment=run.read_json("environment.json") or {},
        timing=timing,
        foreseen=_foreseen(prepared, finished, foreseen, events, measuring_seconds(run, timing)),
        samples=list(_samples(prepared)),
        test_accesses=accesses(run),
        notes=list(dict.fromkeys(event["message"] for event in events if event["event"] == "note")),
    )


def _foreseen(
    prepared: Prepared, finished: Finished, foreseen: Forecast, events: list[dict[str, Any]], measuring: float | None
) -> list[Foreseen]:
    """What was predicted beside what came; training for the steps that were taken."""
    share = finished.step / prepared.settings.steps
    training, evaluating = foreseen.seconds["train"], foreseen.seconds["evaluate"]
    validations = {event["step"]: event["seconds"] for event in events if event["event"] == "validation"}
    took = finished.seconds + sum(validations.values())
    peak = foreseen.peak
    parts = sorted(peak.parts.items(), key=lambda part: -part[1])
    counted = ", ".join(f"{name} {size(part)}" for name, part in parts if part >= 0.01 * peak.total)
    return [
        Foreseen("memory at its peak", "bytes", peak.total, peak.total, finished.peak_memory_bytes, counted),
        Foreseen(
            f"training, {finished.step:,} steps",
            "seconds",
            training.low * share,
            training.high * share,
            took,
            training.source,
        ),
        Foreseen("evaluation", "seconds", evaluating.low, evaluating.high, measuring, evaluating.source),
    ]


def stage_curves(run: Run, stages: Sequence[Stage], finished: Sequence[Finished]) -> list[Curve]:
    """How each stage of training went, from the log."""
    events: dict[str, list[dict[str, Any]]] = {stage.told: [] for stage in stages}
    now: list[dict[str, Any]] = []
    for event in run.events():
        if event["event"] == "stage":
            now = events.get(event["detail"], []) if event["name"] == "train" else []
        now.append(event)
    return [
        replace(
            _curve(stage.told if stage.count > 1 else "", events[stage.told], ended),
            said=_said(stage.folder(run)),
            forgetting=_forgetting(stage, run, events[stage.told]),
        )
        for stage, ended in zip(stages, finished, strict=True)
    ]


def _forgetting(stage: Stage, run: Run, events: Sequence[Mapping[str, Any]]) -> Forgetting | None:
    """General ability at every validation, and what was chosen by it."""
    validations = {event["step"]: event["metrics"] for event in events if event["event"] == "validation"}
    told = {step: metrics for step, metrics in sorted(validations.items()) if metrics.get(GENERAL) is not None}
    if not told:
        return None
    recipe = stage.prepared.loaded.recipe
    metric = recipe.train.stop.on.name
    metric = REWARD if any(REWARD in metrics for metrics in told.values()) else metric
    general = [(step, metrics[GENERAL]) for step, metrics in told.items()]
    bound = recipe.largest_drop
    name = str((stage.folder(run) / STEERING).relative_to(run.folder))
    steering = run.read_json(name)
    if steering is not None:
        axes = Axes(1.0 if steering["higher_is_better"] else -1.0, 1.0)
        points = [
            Point(place, each["task"] or math.nan, each["general"]) for place, each in enumerate(steering["points"])
        ]
        best = {int(point.alpha) for point in front(points, axes)}
        steering["points"] = [{**each, "front": place in best} for place, each in enumerate(steering["points"])]
    return Forgetting(
        metric,
        [(step, metrics[metric]) for step, metrics in told.items() if metrics.get(metric) is not None],
        general,
        None if bound is None else general[0][1] - bound,
        steering,
    )


def _said(folder: Path) -> list[Said]:
    """The best and the worst answers of the last round, where a policy wrote its own data."""
    from sartor.rollouts.source import SAMPLES as ROUNDS

    rounds = sorted((folder / ROUNDS).glob("*.jsonl"))
    if not rounds:
        return []
    told = [Said(each["prompt"], each["answer"], each["reward"]) for each in entries(rounds[-1])]
    known = sorted((each for each in told if each.reward is not None), key=lambda each: -(each.reward or 0.0))
    most = min(SAID, len(known) // 2)
    return [*known[:most], *known[len(known) - most :]]


def _curve(name: str, events: list[dict[str, Any]], finished: Finished) -> Curve:
    """Points by step, so that steps taken again after a resume count once.

    Of a policy that writes its own data, validation is its reward, which is no point on the curve of its loss.
    """
    train = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
    validations = {event["step"]: event["metrics"] for event in events if event["event"] == "validation"}
    validation = {
        step: metrics["loss"] for step, metrics in validations.items() if "loss" in metrics and REWARD not in metrics
    }
    alarmed = any(event["event"] == "note" and event["code"] == "N411" for event in events)
    apart = {"loss", "perplexity", GENERAL, ERROR}
    others = sorted({metric for metrics in validations.values() for metric in metrics} - apart)
    return Curve(
        name,
        train=sorted(train.items()),
        validation=sorted(validation.items()),
        others={
            metric: sorted((step, metrics[metric]) for step, metrics in validations.items() if metric in metrics)
            for metric in others
        },
        chosen=finished.best_step,
        turned=min(validation, key=lambda step: validation[step]) if alarmed else None,
        ended=finished.reason,
    )


def _data(prepared: Prepared, dropped: Path) -> DataFacts:
    rows = prepared.rows
    found = rows.findings.json()
    residual = rows.splits.residual.json() if rows.splits.residual else {}
    parts = {part: len(np.unique(tokens.rows)) for part, tokens in prepared.tokens.items()}
    return DataFacts(
        files=[
            DataFile(file["path"], file["format"] or "", file["records"], file["skipped"]) for file in found["files"]
        ],
        rows=sum(parts.values()),
        parts=parts,
        dropped=_dropped(dropped),
        cleaned=[Cleaned(step.stage, step.rows, step.changed, step.dropped, step.suggested) for step in rows.cleaned],
        made=[Made(making.way, making.made, making.parents) for making in rows.augmented],
        residual={key: value for key, value in residual.items() if key in ("median", "p95", "p99", "max")},
        findings=[finding for finding in found["findings"] if finding["code"] not in TABLES],
    )


def rows_told(prepared: Prepared, dropped: Path) -> str:
    """One line: the rows of each part, those that were made, and those that were left out."""
    facts = _data(prepared, dropped)
    made, out = sum(way.rows for way in facts.made), sum(entry.rows for entry in facts.dropped)
    parts = ", ".join(f"{count:,} {part}" for part, count in facts.parts.items())
    told = f"{facts.rows:,} rows: {parts}"
    told += f"; {made:,} of the training rows were made from others" if made else ""
    return told + (f"; {out:,} left out, each named in data/{DROPPED}" if out else "")


def _dropped(file: Path) -> list[Dropped]:
    """Rows left out by rule and reason, the most frequent first; which row each of them resembles is in the file alone."""
    counts = Counter((entry["rule"], PLACE.sub("", entry["reason"])) for entry in entries(file))
    frequent = [Dropped(rule, reason, count) for (rule, reason), count in counts.most_common(REASONS)]
    rest = counts.total() - sum(entry.rows for entry in frequent)
    return [*frequent, Dropped("others", f"{len(counts) - REASONS:,} more reasons", rest)] if rest else frequent


def _samples(prepared: Prepared) -> Iterator[Sample]:
    """The first training rows as the model saw them, cut where the loss weight changes."""
    tokens, vocabulary = prepared.tokens["train"], prepared.vocabulary
    for index in range(min(SAMPLES, len(tokens))):
        row = tokens[index]
        edges = [0, *(np.flatnonzero(np.diff(row.weight)) + 1).tolist(), len(row)]
        pieces = [
            (vocabulary.decode(row.ids[start:end].tolist()), float(row.weight[start]))
            for start, end in itertools.pairwise(edges)
        ]
        yield Sample(str(prepared.rows.dataset.origin(row.row)), pieces)
