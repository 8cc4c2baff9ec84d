"""GGUF for llama.cpp and Ollama: weights, tokenizer and chat template in one file, and a Modelfile beside it.

Certified through llama.cpp where llama-cpp-python is installed. Without it the file is read back here: every tensor is held
against the model within the rounding of its type, and every word, merge and control token; the certificate then says that
llama.cpp was not there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.export.certificate import Check
from sartor.export.gguf import file
from sartor.export.gguf.architectures import ARCHITECTURES, Unfit, extra
from sartor.export.gguf.file import BLOCK, ROUNDING, Quantize, Tensor, kind_of
from sartor.export.gguf.modelfile import modelfile
from sartor.export.gguf.tokens import words
from sartor.export.source import refused
from sartor.options import Options as Settings

if TYPE_CHECKING:
    from sartor.export.gguf.architectures import Architecture
    from sartor.export.replay import Runtime
    from sartor.export.source import Source
    from sartor.models.weights import Weights

NEEDS: tuple[str, str] = ("gguf", "gguf")
WEIGHTS = "model.gguf"
WITHOUT = "a reader of the file (llama-cpp-python is not installed, so nothing was computed with it)"
CONTEXT = 1024
"""Tokens that the certificate's prompts and answers fit into."""
PRECISIONS: dict[Quantize, str] = {
    "f32": "float32", "f16": "float16", "bf16": "bfloat16", "q8_0": "int8", "q5_0": "int4", "q4_0": "int4",
}  # fmt: skip


class Options(Settings):
    """How the numbers are kept."""

    quantize: Quantize = "f16"
    """f32, f16 or bf16; q8_0, q5_0 or q4_0 in blocks of 32 with one scale each, by gguf's own quantisers."""


def precision(source: Source, options: Options) -> str:
    """The bounds of the type."""
    return PRECISIONS[options.quantize]


def write(source: Source, folder: Path, options: Options) -> dict[str, Any]:
    """The file and the Modelfile. Raises ModelError M201 for what llama.cpp would compute otherwise."""
    with tempfile.TemporaryDirectory(prefix="sartor-export-") as scratch:
        architecture, opened, config = _opened(source, Path(scratch))
        try:
            settings = _settings(source, architecture, config)
            tensors = list(_tensors(architecture, opened, config))
        except Unfit as fault:
            raise refused("gguf", str(fault), "--as merged") from fault
        file.write(folder / WEIGHTS, architecture.name, settings, tensors, options.quantize)
    context = settings[f"{architecture.name}.context_length"]
    text = modelfile(source.renderer, WEIGHTS, context=context)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return {"architecture": architecture.name, "quantize": options.quantize, "context": context}


def replays() -> bool:
    """Whether llama.cpp is there to be asked."""
    return find_spec("llama_cpp") is not None


def runtime(folder: Path) -> Runtime:
    """llama.cpp."""
    from sartor.export.runtimes.llama import Llama

    return Llama(folder / WEIGHTS, context=CONTEXT)


def inspect(source: Source, folder: Path, options: Options) -> list[Check]:
    """Read the file back and hold it against the model."""
    try:
        settings, found = file.read(folder / WEIGHTS)
        with tempfile.TemporaryDirectory(prefix="sartor-export-") as scratch:
            architecture, opened, config = _opened(source, Path(scratch))
            wanted = {tensor.name: tensor for tensor in _tensors(architecture, opened, config)}
            tensors = _compared(wanted, found, options.quantize)
        return [tensors, _told(_settings(source, architecture, config), settings)]
    except (ValueError, IndexError, KeyError) as fault:
        return [Check("file", "unreadable", "readable", False, f"{type(fault).__name__}: {fault}")]


def _opened(source: Source, scratch: Path) -> tuple[Architecture, Weights, dict[str, Any]]:
    from sartor.models.weights import whole

    kind = str(source.folder.root.config["model_type"])
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise refused("gguf", f"models of type {kind} are not written; these are: {known}", "--as merged")
    opened = whole(source.folder, scratch)
    config: dict[str, Any] = json.loads(opened.skeleton.config.to_json_string(use_diff=False))
    return ARCHITECTURES[kind], opened, config


def _settings(source: Source, architecture: Architecture, config: dict[str, Any]) -> dict[str, Any]:
    own = {f"{architecture.name}.{key}": value for key, value in architecture.settings(config).items()}
    told = words(source.renderer, config["vocab_size"])
    tokens = {f"tokenizer.{key}": value for key, value in told.settings.items()}
    return {"general.name": told.name(Path(source.folder.reference).name or "model"), **own, **tokens}


def _tensors(architecture: Architecture, opened: Weights, config: dict[str, Any]) -> Iterator[Tensor]:
    tensors = opened.tensors()

    def numbers(name: str, stored: str) -> np.ndarray:
        made: np.ndarray = tensors[stored].float().numpy()
        return architecture.change(name, made, config)

    for stored, form in opened.forms.items():
        name = architecture.named(stored)
        shape = architecture.change(name, np.empty(form.shape, np.float16), config).shape
        yield Tensor(name, shape, lambda name=name, stored=stored: numbers(name, stored))  # type: ignore[misc]
    for name, weight in extra(config):
        yield Tensor(name, weight.shape, lambda weight=weight: weight)  # type: ignore[misc]


def _compared(wanted: dict[str, Tensor], found: Iterator[tuple[str, np.ndarray]], quantize: Quantize) -> Check:
    """Every number within the rounding of its block."""
    seen, worst, why = set(), 0.0, ""
    for name, own in found:
        seen.add(name)
        if name not in wanted or wanted[name].shape != own.shape:
            why = why or f"{name} is not a weight of the model, or of another shape"
            continue
        numbers = wanted[name].numbers()
        kind = kind_of(wanted[name], quantize)
        apart = np.abs(own - numbers)
        size = np.abs(numbers)
        if kind.startswith("q"):
            apart, size = (each.reshape(-1, BLOCK).max(axis=1) for each in (apart, size))
        over = float((apart - ROUNDING[kind] * size).max())
        worst = max(worst, float(apart.max()))
        if over > 1e-7:
            why = why or f"{name} is off by up to {float(apart.max()):.3g}"
    missing = sorted(wanted.keys() - seen)
    why = why or (f"{missing[0]} is missing" if missing else "")
    return Check(
        "tensors", f"{len(seen)} read back, off by {worst:.2e} at most", "rounding of their type", not why, why
    )


def _told(wanted: dict[str, Any], found: dict[str, Any]) -> Check:
    """Words, merges, control tokens, template and settings as they were meant."""
    wrong = [key for key, value in wanted.items() if not _same(found.get(key), value)]
    why = f"{wrong[0]} is not what the model has" if wrong else ""
    count = len(wanted["tokenizer.ggml.tokens"])
    told = f"{len(wanted) - len(wrong)} of {len(wanted)} settings, {count:,} words"
    return Check("settings", told, "all", not wrong, why)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(found, float) and bool(np.float32(found) == np.float32(wanted))
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], float):
        return bool(np.array_equal(np.asarray(found, np.float32), np.asarray(wanted, np.float32)))
    return bool(found == wanted)
