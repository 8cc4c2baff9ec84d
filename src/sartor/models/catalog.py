"""Which folder a model reference means, and whether that folder is safe to read. Torch-free.

A reference is `sartor/nano` (embedded), a Hugging Face model folder, a PEFT adapter folder, a run folder, or a hub id. Only a
hub id that names nothing on disk makes a network request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.errors import ModelError, Problem

NANO = "sartor/nano"
OWN_ADAPTER = "sartor_adapter.json"
"""Settings of an adapter of a kind that PEFT does not have (models/bottleneck.py)."""
ADAPTER_SETTINGS = ("adapter_config.json", OWN_ADAPTER)
CODE_KEYS = ("auto_map", "custom_pipelines", "trust" + "_remote_code")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
ROUND = 64
"""What windows are multiples of."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "LICENSE*", "README.md"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk. For an adapter, `base` is the model it belongs to and `config` is the base's."""

    path: Path
    reference: str
    config: Mapping[str, Any]
    base: ModelFolder | None = None

    @property
    def kind(self) -> str:
        """model or adapter."""
        return "model" if self.base is None else "adapter"

    @property
    def root(self) -> ModelFolder:
        """The folder with the full weights."""
        return self.base or self

    @property
    def weight_files(self) -> list[Path]:
        """The safetensors files, sorted."""
        return sorted(self.path.glob("*.safetensors"))

    @property
    def window(self) -> int | None:
        """Longest sequence the model was made for, in tokens.

        Some count places from behind the padding token's number, as RoBERTa does, and so name a few more than there are.
        """
        words = self._words
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            size = words.get(key)
            if isinstance(size, int):
                unused = int(words.get("pad_token_id") or 0) + 1
                return size - unused if size % ROUND and not (size - unused) % ROUND else size
        return None

    @property
    def vocabulary(self) -> int | None:
        """Rows of the embedding."""
        size = self._words.get("vocab_size")
        return size if isinstance(size, int) else None

    @property
    def _words(self) -> Mapping[str, Any]:
        """What the configuration says of the part that reads and writes words."""
        return {**self.config, **self.config.get("text_config", {})}


def resolve(reference: str, root: Path, *, revision: str | None = None) -> ModelFolder:
    """Find the folder behind a reference; relative paths are relative to `root`. Raises ModelError (M100 to M109)."""
    if reference == NANO:
        from sartor.embedded import nano

        return _model(nano(), reference)
    path = (root / Path(reference).expanduser()).resolve()
    if path.is_dir():
        if revision is not None:
            raise _wrong("M109", f"base.revision has no effect on a local folder ({reference})", path)
        return _local(path, reference, root)
    if HUB_ID.fullmatch(reference) and not reference.startswith((".", "runs/")):
        return _model(_download(reference, revision), reference)
    raise _wrong("M100", f'there is no model folder "{reference}"', path, fix=f"a folder, a hub id, or {NANO}")


def _local(path: Path, reference: str, root: Path) -> ModelFolder:
    if (path / "recipe.yaml").exists() and (path / "resolved.yaml").exists():
        if not (path / "model").is_dir():
            raise _wrong("M101", "this run has no finished model yet", path, fix=f"sartor run, to finish it ({path})")
        return _local(path / "model", reference, root)
    settings = next((path / name for name in ADAPTER_SETTINGS if (path / name).exists()), None)
    if settings is not None:
        base = _adapter_base(settings, root)
        return ModelFolder(path, reference, base.config, base)
    return _model(path, reference)


def _adapter_base(settings: Path, root: Path) -> ModelFolder:
    """The model an adapter belongs to; one of its own run is named from where the adapter lies."""
    path = settings.parent
    written = _read_json(settings).get("base_model_name_or_path") or ""
    ours = _read_json(path / "sartor.json") if (path / "sartor.json").exists() else {}
    for reference in dict.fromkeys(str(entry) for entry in (ours.get("base"), written) if entry):
        beside = reference == ours.get("base") and reference.startswith("..")
        try:
            base = resolve(reference, path if beside else root)
        except ModelError:
            continue
        if base.kind == "adapter":
            raise _wrong("M107", "the base of this adapter is itself an adapter", path, fix="merge the base first")
        return base
    raise _wrong("M106", f'the base model "{written}" of this adapter was not found', path, fix="put it at that path")


def _model(path: Path, reference: str) -> ModelFolder:
    if not (path / "config.json").exists():
        raise _wrong("M102", "no config.json: not a Hugging Face model folder", path)
    config = _read_json(path / "config.json")
    _refuse_code(config, path)
    if not list(path.glob("*.safetensors")):
        pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise _wrong(
                "M103",
                f"weights are only there as {pickles[0]}, a format that can run code when it is read",
                path,
                fix="convert them to safetensors on a machine you trust (safetensors' convert script)",
            )
        raise _wrong("M104", "no *.safetensors file", path)
    _check_shards(path)
    return ModelFolder(path, reference, config)


def _refuse_code(config: Mapping[str, Any], path: Path) -> None:
    bad = [key for key in config if key in CODE_KEYS or key.startswith("_attn_implementation") or "kernels" in key]
    if bad:
        raise _wrong(
            "M105",
            f'key "{bad[0]}" would make the library run code that comes with the model',
            path / "config.json",
            fix="use a model whose architecture is part of transformers, or remove the key",
        )
    if not isinstance(config.get("model_type"), str):
        raise _wrong("M102", "config.json names no model_type", path / "config.json")


def _check_shards(path: Path) -> None:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return
    names = set(_read_json(index).get("weight_map", {}).values())
    unsafe = sorted(name for name in names if "/" in name or "\\" in name or ".." in name)
    if unsafe:
        raise _wrong("M108", f'shard name "{unsafe[0]}" leaves the folder', index)
    missing = sorted(name for name in names if not (path / name).exists())
    if missing:
        raise _wrong("M104", f"{len(missing)} of {len(names)} weight files are missing, first {missing[0]}", path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise _wrong("M102", f"cannot be read as JSON ({fault})", path) from fault
    if not isinstance(body, dict):
        raise _wrong("M102", "a JSON object was expected", path)
    return body


def _download(reference: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as fault:
        raise ModelError(
            Problem(
                "M100",
                f'"{reference}" is no folder here, and the hub did not give it ({type(fault).__name__})',
                fix="check the name, the network and, for a gated model, your token (huggingface-cli login)",
            )
        ) from fault


def _wrong(code: str, what: str, path: Path, fix: str | None = None) -> ModelError:
    return ModelError(Problem(code, what, file=str(path), fix=fix))
