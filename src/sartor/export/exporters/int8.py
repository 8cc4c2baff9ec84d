"""Linear layers in 8 bits with one scale a row (W8A16), for vLLM, SGLang and transformers: about half the size of bf16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sartor.options import NoOptions

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.export.replay import Runtime
    from sartor.export.source import Source

Options = NoOptions
NEEDS: tuple[str, str] = ("compressed_tensors", "quant")


def precision(source: Source, options: NoOptions) -> str:
    """8 bits."""
    return "int8"


def write(source: Source, folder: Path, options: NoOptions) -> dict[str, Any]:
    """The folder."""
    from sartor.export.packed import write_packed

    return write_packed(source, folder, "int8", bits=8, group=None)


def runtime(folder: Path) -> Runtime:
    """Plain transformers with compressed-tensors."""
    from sartor.export.runtimes.plain import Plain

    return Plain(folder)
