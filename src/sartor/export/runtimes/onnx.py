"""The only file that imports onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sartor.export.runtimes.stateless import Stateless


class Onnx(Stateless):
    """A folder with model.onnx, computed by ONNX Runtime on the CPU."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        import onnxruntime

        super().__init__(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._version = onnxruntime.__version__

    @property
    def name(self) -> str:
        """ONNX Runtime."""
        return f"ONNX Runtime {self._version} on the CPU"

    def compute(self, ids: Sequence[int]) -> np.ndarray:
        """[T, V] fp32"""
        (logits,) = self._session.run(None, {"input_ids": np.asarray([list(ids)], np.int64)})
        found: np.ndarray = logits[0]
        return found
