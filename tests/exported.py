"""Tiny models with their probes, and a certificate made in this process, for tests of exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import job
import pytest
from safetensors import SafetensorError

from sartor import registry
from sartor.export import certificate, probes
from sartor.export.certificate import Certificate
from sartor.export.replay import Unopened, replay
from sartor.export.runtimes.own import in_fp32, opened
from sartor.export.source import Source
from sartor.flow.eval import rows_of
from sartor.flow.merge import facts_of
from sartor.flow.prepare import renderer_for
from sartor.methods import lora
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.save import save_model

COUNT = 6
"""Probes of a test."""


@dataclass(frozen=True)
class Subject:
    """A model on disk with what it does."""

    source: Source
    probes: probes.Probes


def subject(folder: Path) -> Subject:
    """The model of a folder, asked a few orders."""
    found = resolve(str(folder), folder.parent)
    source = Source(found, renderer_for(found), facts_of(found))
    rows = job.write_rows(folder.parent / "probes.jsonl", job.orders(COUNT))
    policy = opened(found)
    in_fp32(policy)
    asked = probes.asked(list(rows_of(str(rows), folder.parent)), source.renderer, window=policy.window)
    return Subject(source, probes.record(policy, source.renderer, asked, max_new_tokens=8, told=lambda done: None))


def adapter(base: Path, out: Path, *, seed: int = 1, scale: float = 0.1) -> Path:
    """A LoRA adapter with drawn weights."""
    policy = load(resolve(str(base), base))
    lora.attach(policy, lora.Options(rank=2), seed=seed)
    for parameter in policy.trainable().values():
        parameter.data.normal_(0, scale)
    files = [base / "tokenizer.json", base / "tokenizer_config.json"]
    facts = {"base": str(base), "base_path": str(base), "quantization": None, "thinks": False}
    save_model(policy, out, base=base, files=files, template=job.CHATML, facts=facts)
    return out


def made(name: str, given: Subject, out: Path, **options: Any) -> Path:
    """The artifact of one exporter."""
    module = registry.component("exporter", name)
    needs(name)
    out.mkdir(parents=True)
    module.write(given.source, out, module.Options(**options))
    return out


def needs(name: str) -> None:
    """Skip where the exporter's library is not installed."""
    library, extra = registry.component("exporter", name).NEEDS
    if library and find_spec(library) is None:
        pytest.skip(f"{library} is not installed (extra {extra})")


def certified(name: str, given: Subject, folder: Path, **options: Any) -> Certificate:
    """The certificate of an artifact, its runtime opened in this process."""
    module = registry.component("exporter", name)
    settings = module.Options(**options)
    precision = module.precision(given.source, settings)
    found = list(module.inspect(given.source, folder, settings)) if hasattr(module, "inspect") else []
    if getattr(module, "replays", lambda: True)():
        try:
            found += certificate.checks(given.probes, replay(module.runtime(folder), given.probes), precision)
        except (Unopened, SafetensorError, OSError, ValueError, RuntimeError, KeyError) as fault:
            found += certificate.unopened(str(fault))
    return Certificate(name, precision, "this process", tuple(found), {})


def spoil(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def failing(found: Certificate) -> frozenset[str]:
    """Names of the checks that failed."""
    return frozenset(check.name for check in found.failed)
