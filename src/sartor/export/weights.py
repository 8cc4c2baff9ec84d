"""Whole weights of a model on disk, an adapter added in fp32 to the base it was trained on, written in one number type.

W' = W + scale B A, W what the adapter has seen: for QLoRA what its four bits stand for (models/weights.py)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sartor.export.folder import INDEX, write_generation, write_json, write_text_files

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from sartor.export.source import Source

Dtype = Literal["float32", "bfloat16", "float16"]
CODES: dict[Dtype, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
FLOATING = ("F64", "F32", "F16", "BF16")


def stored_dtype(source: Source) -> Dtype:
    """The type that most numbers of the base lie in on disk; a type of more bits than 32 is written in 32."""
    from collections import Counter

    from sartor.store.tensors import forms

    counts: Counter[str] = Counter()
    for file in source.folder.root.weight_files:
        for form in forms(file).values():
            counts[form.dtype] += form.bytes
    usual = counts.most_common(1)[0][0]
    return next((name for name, code in CODES.items() if code == usual), "float32")


def write_whole(source: Source, folder: Path, dtype: Dtype) -> int:
    """A model folder that plain transformers reads; the number of tensors. Sums are fp32, one tensor in memory at a time."""
    import torch

    from sartor.models.weights import form_of, whole
    from sartor.store.tensors import Form, write_each

    with tempfile.TemporaryDirectory(prefix="sartor-export-") as scratch:
        opened = whole(source.folder, Path(scratch))
        form = form_of(source.folder, opened)
        tensors, wide = opened.tensors(), getattr(torch, dtype)

        def cast(name: str) -> torch.Tensor:
            made = tensors[name]
            return made.to(wide) if made.is_floating_point() else made

        places: dict[str, str] = {}
        total = count = 0
        for file, held in form.files.items():
            wanted = {
                name: Form(CODES[dtype], one.shape) if one.dtype in FLOATING else one
                for name, one in held.items()
                if form.bare(name) in form.forms
            }
            if not wanted:
                continue
            bare: Callable[[str], str] = form.bare
            write_each(folder / file.name, wanted, lambda name, bare=bare: cast(bare(name)))  # type: ignore[misc]
            places |= dict.fromkeys(wanted, file.name)
            total, count = total + sum(one.bytes for one in wanted.values()), count + len(wanted)
        if len(set(places.values())) > 1:
            write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
        config: dict[str, Any] = json.loads((form.root.path / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", {**config, "dtype": dtype})
    return count


def write_model(source: Source, folder: Path, dtype: Dtype, facts: dict[str, Any]) -> None:
    """`write_whole` with everything that belongs beside the weights."""
    write_whole(source, folder, dtype)
    write_text_files(source, folder, {**facts, "quantization": None})
    write_generation(source, folder)
