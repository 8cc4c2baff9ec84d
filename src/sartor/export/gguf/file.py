"""The only file that imports gguf: writing a file tensor by tensor, quantising on the way, and reading one back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Quantize = Literal["f32", "f16", "bf16", "q8_0", "q5_0", "q4_0"]
BLOCK = 32
"""Numbers that share a scale; a row that is no multiple of it stays f16."""
FILE_TYPES: Mapping[Quantize, int] = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q5_0": 8, "q4_0": 2}
"""general.file_type, as llama.cpp numbers them."""
ROUNDING: Mapping[Quantize, float] = {
    "f32": 0.0, "f16": 2.0**-10, "bf16": 2.0**-7, "q8_0": 0.5 / 127 + 2.0**-10, "q5_0": 1.05 / 16, "q4_0": 1.05 / 8,
}  # fmt: skip
"""Largest error of a number by the largest number of its block, with the rounding of the scale."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight to be written: its shape now, its numbers when they are asked for."""

    name: str
    shape: tuple[int, ...]
    numbers: Callable[[], np.ndarray]
    """fp32"""


def kind_of(tensor: Tensor, quantize: Quantize) -> Quantize:
    """How a weight is kept: vectors and positions in f32, rows that are no whole blocks in f16."""
    if len(tensor.shape) < 2 or tensor.name == "position_embd.weight":
        return "f32"
    return "f16" if quantize.startswith("q") and tensor.shape[-1] % BLOCK else quantize


def write(
    path: Path, architecture: str, settings: Mapping[str, Any], tensors: list[Tensor], quantize: Quantize
) -> None:
    """A whole file. One tensor is in memory at a time."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(FILE_TYPES[quantize])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in settings.items():
        _add(writer, key, value)
    kinds = {tensor.name: _library_kind(kind_of(tensor, quantize)) for tensor in tensors}
    for tensor in tensors:
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, kinds[tensor.name])
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), math.prod(shape), kinds[tensor.name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        made = gguf.quants.quantize(np.ascontiguousarray(tensor.numbers(), np.float32), kinds[tensor.name])
        writer.write_tensor_data(made.view(np.uint8))
    writer.close()


def _library_kind(kind: Quantize) -> Any:
    import gguf

    return gguf.GGMLQuantizationType[kind.upper()]


def _add(writer: Any, key: str, value: Any) -> None:
    """A setting, in the type that llama.cpp reads it in."""
    import gguf

    kinds = gguf.GGUFValueType
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif key.endswith("token_type"):
        writer.add_key_value(key, value, kinds.ARRAY, sub_type=kinds.INT32)
    else:
        writer.add_array(key, value)


def read(path: Path) -> tuple[dict[str, Any], Iterator[tuple[str, np.ndarray]]]:
    """Settings, and name and fp32 numbers of every tensor. Raises ValueError or IndexError for a damaged file."""
    import gguf

    reader = gguf.GGUFReader(path)
    settings = {name: field.contents() for name, field in reader.fields.items()}

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for tensor in reader.tensors:
            shape = tuple(int(size) for size in reversed(tensor.shape))
            yield tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)

    return settings, tensors()
