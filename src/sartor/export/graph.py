"""A model as one function from ids to logits, as exporters of graphs take it: plain attention, no cache, fp32."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sartor.export.folder import write_generation, write_json, write_text_files
from sartor.export.weights import write_whole

if TYPE_CHECKING:
    from sartor.export.source import Source

SAMPLE = 16
"""Tokens of the text that a graph is traced with."""


class Whole(torch.nn.Module):
    """ids [1, T] int64 -> logits [1, T, V]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """One pass over the whole text."""
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


@contextmanager
def whole_model(source: Source) -> Iterator[Whole]:
    """The model, its adapter added in fp32."""
    from sartor.models.hf import load_model, read_config

    with tempfile.TemporaryDirectory(prefix="sartor-export-") as scratch:
        write_whole(source, Path(scratch), "float32")
        model, *_ = load_model(Path(scratch), read_config(Path(scratch), {}), dtype=torch.float32)
        model.set_attn_implementation("eager")
        yield Whole(model.eval())


def window_of(source: Source, wanted: int) -> int:
    """Tokens that the graph takes, at most those of the model."""
    own = source.folder.root.window
    return wanted if own is None else min(wanted, own)


def write_beside(source: Source, folder: Path, name: str, window: int) -> None:
    """Tokenizer, template, generation defaults and configuration for whoever drives the graph."""
    write_text_files(source, folder, {"exported": {"as": name, "window": window}, "quantization": None})
    write_generation(source, folder)
    write_json(folder / "config.json", dict(source.folder.root.config))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' talk about libraries that are not there."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
