"""One whole model that plain transformers, vLLM or SGLang opens: the adapter added in fp32 to the base it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sartor.export.weights import Dtype, stored_dtype, write_model
from sartor.options import Options as Settings

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.export.replay import Runtime
    from sartor.export.source import Source

NEEDS: tuple[str, str] = ("", "")


class Options(Settings):
    """How the weights are written."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the numbers on disk; auto is that of the base's files."""


def _dtype(source: Source, options: Options) -> Dtype:
    return stored_dtype(source) if options.dtype == "auto" else options.dtype


def precision(source: Source, options: Options) -> str:
    """The type of the numbers; products of the certificate are fp32."""
    return _dtype(source, options)


def write(source: Source, folder: Path, options: Options) -> dict[str, Any]:
    """The folder."""
    dtype = _dtype(source, options)
    write_model(source, folder, dtype, {"exported": {"as": "merged", "dtype": dtype}})
    return {"dtype": dtype}


def runtime(folder: Path) -> Runtime:
    """Plain transformers."""
    from sartor.export.runtimes.plain import Plain

    return Plain(folder)
