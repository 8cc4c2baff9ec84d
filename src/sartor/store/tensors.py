"""Named tensors in safetensors files, whole or cut along their first dimension, read back in whatever parts are wanted.

    weights.safetensors              of one process
    weights-0-of-2.safetensors ...   of two, each with tensors or rows of tensors that no other file has

The header of a file says for every tensor of which only some rows are there `"name": "[start, stop, rows]"`. So what two
ranks wrote is read by one, or by four, and what one wrote by any number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Part:
    """The rows from `start` to before `stop` of a tensor that has `rows` of them."""

    start: int
    stop: int
    rows: int

    @property
    def numbers(self) -> list[int]:
        """As it stands in a file's header."""
        return [self.start, self.stop, self.rows]


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path, parts: Mapping[str, Part]) -> None:
    """Write contiguous tensors; those named in `parts` hold only these rows of theirs."""
    from safetensors.torch import save_file

    cut = {name: json.dumps(part.numbers) for name, part in parts.items()}
    save_file(dict(tensors), path, metadata=cut or None)


@dataclass(frozen=True, slots=True)
class Form:
    """Type, as safetensors calls it, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Length of its numbers."""
        return SIZES[self.dtype] * math.prod(self.shape)


SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
"""Bytes of one number."""


def forms(path: Path) -> dict[str, Form]:
    """Name -> form of every tensor of a file, without reading the tensors."""
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is not a dictionary
        return {name: Form(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def write_each(path: Path, wanted: Mapping[str, Form], tensor: Callable[[str], torch.Tensor]) -> None:
    """Write a safetensors file one tensor at a time: `tensor` is called for each name and gives it in its form.

    The file: the length of the header (8 bytes, little-endian), the header (JSON: type, shape, begin and end of each tensor),
    then the numbers without gaps, the widest types first, so that every tensor begins at a multiple of its width.
    """
    import torch

    names = sorted(wanted, key=lambda name: (-SIZES[wanted[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        form = wanted[name]
        header[name] = {"dtype": form.dtype, "shape": form.shape, "data_offsets": (end, end + form.bytes)}
        end += form.bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            made = tensor(name).contiguous()
            if made.nbytes != wanted[name].bytes or tuple(made.shape) != wanted[name].shape:
                raise ValueError(f"{name} is not of the form it was promised in")
            file.write(made.flatten().view(torch.uint8).numpy().data)


class Stored(Mapping[str, "torch.Tensor"]):
    """The tensors of `folder`/`stem`*.safetensors, each read when it is asked for.

    Of a tensor with a `wanted` part only those rows are read; of one that does not have `rows` rows, all there is.
    Raises ValueError where the files do not hold every row exactly once.
    """

    def __init__(self, folder: Path, stem: str, wanted: Callable[[str], Part | None] = lambda name: None) -> None:
        self._wanted = wanted
        self._places: dict[str, list[tuple[Part, Any]]] = {}
        for path in sorted(folder.glob(f"{stem}*.safetensors")):
            file: Any = safe_open(path, framework="pt")
            cut = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118  it is not a dictionary
                part = Part(*json.loads(cut[name])) if name in cut else _all(file.get_slice(name).get_shape())
                self._places.setdefault(name, []).append((part, file))
        for name, places in self._places.items():
            places.sort(key=lambda place: place[0].start)
            if not _whole([part for part, _ in places]):
                raise ValueError(f"{name} is not whole in the files of {folder}")

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __getitem__(self, name: str) -> torch.Tensor:
        """The tensor, or the wanted rows of it, on the CPU."""
        import torch

        places = self._places[name]
        first, file = places[0]
        wanted = self._wanted(name)
        if wanted is None or wanted.rows != first.rows:
            wanted = _all([first.rows])
        if wanted == first:
            whole: torch.Tensor = file.get_tensor(name)
            return whole
        pieces = []
        for held, file in places:
            start, stop = max(wanted.start, held.start), min(wanted.stop, held.stop)
            pieces.append(file.get_slice(name)[start - held.start : max(start, stop) - held.start])
        return torch.cat(pieces)


def _all(shape: Sequence[int]) -> Part:
    """Every row; of a single number, which has none, from 0 to 0."""
    rows = shape[0] if shape else 0
    return Part(0, rows, rows)


def _whole(parts: Sequence[Part]) -> bool:
    """Whether sorted parts follow each other from the first to the last row of one tensor."""
    ends = [0, *(part.stop for part in parts)]
    return [part.start for part in parts] == ends[:-1] and {part.rows for part in parts} == {ends[-1]}
