"""Linear layers in 4 bits with one scale a group (W4A16), for vLLM, SGLang and transformers: about a quarter of bf16.

Weights are rounded to the nearest value; no rows are needed for it. What that costs is in the certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from sartor.options import Options as Settings

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.export.replay import Runtime
    from sartor.export.source import Source

NEEDS: tuple[str, str] = ("compressed_tensors", "quant")


class Options(Settings):
    """How fine the scales are."""

    group: Literal[32, 64, 128] = 32
    """Numbers of a row that share a scale; layers whose rows are no whole groups stay as they are. Kernels of some servers want 128."""


def precision(source: Source, options: Options) -> str:
    """4 bits."""
    return "int4"


def write(source: Source, folder: Path, options: Options) -> dict[str, Any]:
    """The folder."""
    from sartor.export.packed import write_packed

    return write_packed(source, folder, "int4", bits=4, group=options.group)


def runtime(folder: Path) -> Runtime:
    """Plain transformers with compressed-tensors."""
    from sartor.export.runtimes.plain import Plain

    return Plain(folder)
