"""Finds components by name: in every registered room, one file is one feature and the file name is its key in the recipe.

Third parties add theirs by an entry point in the group ``sartor.<kind>`` that names a module. Nothing here imports a
component until it is asked for by name, and component modules import torch only inside functions, so the recipe room can
read any component's `Options` in milliseconds.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

ROOMS: dict[str, str] = {
    "source": "sartor.data.sources",
    "format": "sartor.data.formats",
    "stage": "sartor.data.stages",
    "augmentation": "sartor.data.augment",
    "check": "sartor.data.checks",
    "metric": "sartor.metrics",
    "exporter": "sartor.export.exporters",
    "method": "sartor.methods",
    "objective": "sartor.objectives",
    "optimizer": "sartor.engine.optimizers",
    "schedule": "sartor.engine.schedules",
    "anchor": "sartor.engine.anchors",
    "safety": "sartor.evaluate.safety",
    "judge": "sartor.evaluate.judges",
    "benchmark": "sartor.evaluate.benchmarks",
    "watcher": "sartor.engine.watchers",
    "tracker": "sartor.engine.trackers",
}


@cache
def _modules(kind: str) -> dict[str, str]:
    package = importlib.import_module(ROOMS[kind])
    own = {
        found.name: f"{ROOMS[kind]}.{found.name}"
        for found in pkgutil.iter_modules(package.__path__)
        if not found.name.startswith("_")
    }
    return {point.name: point.value for point in entry_points(group=f"sartor.{kind}")} | own


def names(kind: str) -> list[str]:
    """The keys of all components of a kind, sorted."""
    return sorted(_modules(kind))


def component(kind: str, name: str) -> ModuleType:
    """The module of one component. Raises KeyError for an unknown name."""
    return importlib.import_module(_modules(kind)[name])
