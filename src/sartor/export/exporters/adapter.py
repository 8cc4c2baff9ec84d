"""The adapter alone, as PEFT keeps it, with tokenizer, template and the name of its base: megabytes instead of gigabytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.export.folder import write_text_files
from sartor.export.source import refused
from sartor.models.catalog import ADAPTER_SETTINGS
from sartor.options import NoOptions

if TYPE_CHECKING:
    from sartor.export.replay import Runtime
    from sartor.export.source import Source

Options = NoOptions
NEEDS: tuple[str, str] = ("", "")


def precision(source: Source, options: NoOptions) -> str:
    """fp32, or the type that a base in few bits is computed in."""
    held = _held(source)
    return "bfloat16" if held is not None and held["dtype"] == "bfloat16" else "float32"


def write(source: Source, folder: Path, options: NoOptions) -> dict[str, Any]:
    """Copy the adapter's own files; its base is named by its hub id or its whole path. Raises ModelError M201."""
    if source.folder.base is None:
        raise refused("adapter", "this is a whole model, trained without an adapter", "--as merged")
    for file in _files(source.folder.path):
        shutil.copyfile(file, folder / file.name)
    base = source.folder.base
    hub = not base.path.name or (base.reference.count("/") == 1 and not Path(base.reference).exists())
    named = base.reference if hub else str(base.path.resolve())
    settings = next((folder / name for name in ADAPTER_SETTINGS if (folder / name).exists()), None)
    assert settings is not None, "the catalogue calls no other folder an adapter"
    body = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**body, "base_model_name_or_path": named}, indent=2) + "\n", encoding="utf-8")
    write_text_files(
        source, folder, {"base": named, "base_path": str(base.path.resolve()), "quantization": _held(source)}
    )
    return {"base": named}


def runtime(folder: Path) -> Runtime:
    """Our own loader: PEFT inside transformers."""
    from sartor.export.runtimes.own import Own

    return Own(folder)


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.safetensors"))
    yield from (folder / name for name in ADAPTER_SETTINGS if (folder / name).exists())


def _held(source: Source) -> Any:
    path = source.folder.path / "sartor.json"
    return json.loads(path.read_text(encoding="utf-8")).get("quantization") if path.exists() else None
