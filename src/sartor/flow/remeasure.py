"""What an earlier sitting has measured and still holds after the recipe was changed: a further metric, suite or rival needs no
answer anew, another length of answers needs all of them.

predictions/want.json      model -> what was measured of every row: prediction, nll, label, answers
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sartor.evaluate.suites import PROBE
from sartor.protocols import Outcome
from sartor.recipe.schema import Rival
from sartor.store.atomic import remove
from sartor.store.run import Run

WANT = "predictions/want.json"
ONLY_TOLD = re.compile(
    r"recipe\.(goal\.(success|statement)|evaluate\.(metrics|confidence|resamples|test|correction|slices|batch))(\b|$)"
)
"""Changes that leave every answer as it is."""
LISTED = re.compile(r"recipe\.evaluate\.(safety|judge|benchmarks|against)(\.count$|\[\d+\])")
SUITE = re.compile(r"recipe\.evaluate\.(safety|judge|benchmarks)\[\d+\]\.(\w+)(.*)")
AGAINST = re.compile(r"recipe\.evaluate\.against\[(\d+)\]\.?(.*)")
GENERAL = re.compile(r"recipe\.evaluate\.general(\b|$)")
FILES = re.compile(r"data\.(?:rival|suite) (\S+)")
KINDS = {"safety": "safety", "judge": "judge", "benchmarks": "benchmark"}
Fields = Mapping[str, Any]


def forget(folder: Path, old: Fields, new: Fields) -> None:
    """Remove from the run folder what the changed fields of its fingerprint touch, and nothing else."""
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    known = (ONLY_TOLD, LISTED, GENERAL, FILES)
    if any(not any(pattern.match(key) for pattern in known) for key in changed):
        _gone(folder / "predictions", folder / "suites", folder / "shots.json")
        return
    files = {found[1] for key in changed if (found := FILES.match(key))}
    rivals = _rivals(old)
    for name in rivals:
        if rivals[name] != _rivals(new).get(name) or name in files:
            _gone(*(folder / "predictions").glob(f"{name}.*jsonl*"))
    suites = _suites(old)
    names = {name for name in suites if suites[name] != _suites(new).get(name)}
    if any(key.startswith("data.suite ") for key in changed):
        names |= suites.keys()
    if any(GENERAL.match(key) for key in changed):
        names.add(PROBE)
    for name in names:
        _gone(folder / "suites" / name, folder / "suites" / f"{name}.json")


def _rivals(told: Fields) -> dict[str, Any]:
    """What each of `evaluate.against` is, by its name."""
    entries: dict[str, dict[str, Any]] = {}
    for key, value in told.items():
        found = AGAINST.match(key)
        if found is not None:
            entries.setdefault(found[1], {})[found[2]] = value
    named: dict[str, Any] = {}
    for entry in entries.values():
        if "" in entry:
            named[entry[""]] = entry
            continue
        inner = {key.partition(".")[2]: value for key, value in entry.items() if key.startswith("retrieval.")}
        plain = {key: value for key, value in entry.items() if "." not in key and value is not None}
        named[Rival.model_validate({**plain, **({"retrieval": inner} if inner else {})}).called] = entry
    return named


def _suites(told: Fields) -> dict[str, dict[str, Any]]:
    """Suite -> its options."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in told.items():
        named = SUITE.match(key)
        if named is not None:
            found.setdefault(f"{KINDS[named[1]]}-{named[2]}", {})[named[3]] = value
    return found


def _gone(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            remove(path)
        else:
            path.unlink(missing_ok=True)


def lacking(run: Run, name: str, want: frozenset[str]) -> frozenset[str]:
    """What is wanted of every row and was not measured of this model."""
    told = (run.read_json(WANT) or {}).get(name)
    return frozenset() if told is None else want - frozenset(told)


def note(run: Run, name: str, want: frozenset[str]) -> None:
    """Write down what was measured of a model, beside what was before."""
    told = run.read_json(WANT) or {}
    told[name] = sorted(want | frozenset(told.get(name, ())))
    run.write_json(WANT, told)


def merged(before: Outcome, more: Outcome) -> Outcome:
    """An outcome with what another one of the same row says beyond it."""
    said = {each.name: getattr(more, each.name) for each in fields(Outcome)}
    plain = Outcome(more.id, more.prompt, more.reference)
    new = {name: value for name, value in said.items() if value != getattr(plain, name)}
    return replace(before, **new)
