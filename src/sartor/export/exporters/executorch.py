"""ExecuTorch for phones and boards (XNNPACK): ids to logits in fp32 over a fixed window, without a cache. The only file that
imports executorch.

Shorter texts are filled up behind their end, which a decoder does not see. Every new token costs a pass over the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from sartor.export.runtimes.stateless import Stateless
from sartor.options import Options as Settings

if TYPE_CHECKING:
    from sartor.export.replay import Runtime
    from sartor.export.source import Source

NEEDS: tuple[str, str] = ("executorch", "executorch")
PROGRAM = "model.pte"


class Options(Settings):
    """What the program takes."""

    window: Annotated[int, Field(ge=16, le=1 << 15)] = 512
    """Length of the texts in tokens, prompt and answer together; at most what the model was made for."""


def precision(source: Source, options: Options) -> str:
    """fp32."""
    return "float32"


def write(source: Source, folder: Path, options: Options) -> dict[str, Any]:
    """model.pte, and what is needed to drive it."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from sartor.export.graph import quiet, whole_model, window_of, write_beside

    window = window_of(source, options.window)
    with whole_model(source) as model, quiet(), torch.no_grad():
        sample = torch.zeros(1, window, dtype=torch.int64)
        program = to_edge_transform_and_lower(torch.export.export(model, (sample,)), partitioner=[XnnpackPartitioner()])
        (folder / PROGRAM).write_bytes(program.to_executorch().buffer)
    write_beside(source, folder, "executorch", window)
    return {"window": window, "backend": "XNNPACK"}


class Program(Stateless):
    """A folder with model.pte, computed by ExecuTorch's own runtime."""

    def __init__(self, folder: Path) -> None:
        import torch
        from executorch.runtime import Runtime as Library

        super().__init__(folder)
        self._torch = torch
        self._program = Library.get().load_program(str(folder / PROGRAM))
        self._method = self._program.load_method("forward")

    @property
    def name(self) -> str:
        """ExecuTorch."""
        return "ExecuTorch with XNNPACK on the CPU"

    def compute(self, ids: Sequence[int]) -> np.ndarray:
        """[T, V] fp32"""
        filled = [*ids, *[0] * (self.window - len(ids))]
        (logits,) = self._method.execute([self._torch.tensor([filled])])
        found: np.ndarray = logits[0, : len(ids)].float().numpy()
        return found


def runtime(folder: Path) -> Runtime:
    """ExecuTorch."""
    return Program(folder)
