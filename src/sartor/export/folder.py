"""The files round the weights of a model folder: tokenizer, template, generation defaults, and what sartor.json says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sartor.export.source import Source

INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"


def write_text_files(source: Source, folder: Path, facts: Mapping[str, Any]) -> None:
    """Tokenizer, chat template, sartor.json and model card."""
    vocabulary = source.renderer.vocabulary
    for file in vocabulary.files:
        shutil.copyfile(file, folder / file.name)
    for name, body in vocabulary.texts.items():
        (folder / name).write_text(body, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(source.renderer.template.source, encoding="utf-8")
    write_json(folder / "sartor.json", {**source.facts, **facts})
    if source.card is not None and source.card.exists():
        shutil.copyfile(source.card, folder / "README.md")


def write_generation(source: Source, folder: Path) -> None:
    """Generation defaults that end an answer where training ended it."""
    path = source.folder.root.path / GENERATION
    body = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    vocabulary = source.renderer.vocabulary
    named = {"bos_token_id": vocabulary.bos_id, "pad_token_id": vocabulary.pad_id}
    body |= {key: value for key, value in named.items() if value is not None}
    ends = source.stop_ids
    if ends:
        body["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    write_json(folder / GENERATION, body)


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """A JSON object."""
    path.write_text(json.dumps(dict(body), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
