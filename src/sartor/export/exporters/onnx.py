"""ONNX for ONNX Runtime on many devices: ids to logits in fp32, any length up to a window, without a cache.

Without a cache every new token costs a pass over the whole text: right for short answers, labels and scores on a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sartor.options import Options as Settings

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.export.replay import Runtime
    from sartor.export.source import Source

NEEDS: tuple[str, str] = ("onnxruntime", "edge")
OPSET = 18


class Options(Settings):
    """What the graph takes."""

    window: Annotated[int, Field(ge=16, le=1 << 17)] = 512
    """Longest text in tokens, prompt and answer together; at most what the model was made for."""


def precision(source: Source, options: Options) -> str:
    """fp32."""
    return "float32"


def write(source: Source, folder: Path, options: Options) -> dict[str, Any]:
    """model.onnx, with its weights beside it in model.onnx.data, and what is needed to drive it."""
    import onnx
    import onnxscript
    import torch

    from sartor.export.graph import SAMPLE, quiet, whole_model, window_of, write_beside

    window = window_of(source, options.window)
    with whole_model(source) as model, quiet(), torch.inference_mode():
        sample = torch.arange(SAMPLE)[None] % source.renderer.vocabulary.size
        length = torch.export.Dim("length", min=2, max=window)
        program = torch.onnx.export(
            model, (sample,), dynamo=True, opset_version=OPSET, input_names=["input_ids"], output_names=["logits"],
            dynamic_shapes={"input_ids": {1: length}}, verbose=False,
        )  # fmt: skip
        assert program is not None, "the exporter of graphs gives a program"
        program.save(str(folder / "model.onnx"), external_data=True)
    onnx.checker.check_model(str(folder / "model.onnx"))
    write_beside(source, folder, "onnx", window)
    return {"window": window, "opset": OPSET, "onnx": onnx.__version__, "onnxscript": onnxscript.__version__}


def runtime(folder: Path) -> Runtime:
    """ONNX Runtime."""
    from sartor.export.runtimes.onnx import Onnx

    return Onnx(folder)
