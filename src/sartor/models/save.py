"""Writes what training made: a Hugging Face model folder or a PEFT adapter folder, with tokenizer and template inside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sartor.models.base import ModelPolicy
from sartor.models.heads import KEY
from sartor.tokens.growth import KEY as GROWN


def save_model(
    policy: ModelPolicy,
    folder: Path,
    *,
    base: Path,
    files: Sequence[Path],
    template: str,
    facts: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Save the policy's weights beside the tokenizer `files` and the chat template that was trained with.

    `facts` goes to sartor.json: at least the reference of the base and the rendering options. The head goes there too, as
    the policy has it, and so do its new tokens. `texts` are files by name that are not as they lie in the base's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if policy.adapter is not None:
        policy.adapter.save(folder, str(base))
    else:
        policy.model.save_pretrained(str(folder))
    for file in files:
        shutil.copyfile(file, folder / file.name)
    for name, text in (texts or {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    told = {**facts, **({KEY: policy.head.json()} if policy.head is not None else {})}
    if policy.growth is not None:
        told[GROWN] = policy.growth.json()
    (folder / "sartor.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
