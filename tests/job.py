"""A complete tiny job for tests: a random model with its own tokenizer and template, rows that can be learnt, a recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sartor.events import Event
from sartor.flow.run import Ran, run
from sartor.models.hf import random_causal

VOCABULARY = 400
SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
CHATML = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
COLOURS = ("red", "blue", "green", "black")
THINGS = ("lamps", "chairs", "tables", "shelves", "beds", "rugs")
PLACES = ("Bern", "Oslo", "Lima", "Cairo", "Quito", "Delhi", "Perth", "Turin", "Kyoto")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def orders(count: int = 72) -> list[dict[str, str]]:
    """An order in words -> the same as JSON. No two share most of their words."""
    made = []
    for index in range(count):
        colour, thing, place = COLOURS[index % 4], THINGS[index // 4 % 6], PLACES[index // 8 % 9]
        number, code = index * 37 % 91 + 2, f"{index * 7919 % 9973:04d}"
        text = f"{code}: {number} {colour} {thing} to {place}"
        made.append({"prompt": text, "completion": json.dumps({"item": thing, "colour": colour, "count": number})})
    return made


def labelled(count: int = 72) -> list[dict[str, str]]:
    """A text whose colour decides its label."""
    return [
        {"text": row["prompt"], "label": "warm" if index % 4 == 0 else "cold"}
        for index, row in enumerate(orders(count))
    ]


def texts(count: int = 72) -> list[dict[str, str]]:
    """Raw documents."""
    return [{"text": f"{row['prompt']} is {row['completion']}"} for row in orders(count)]


def chats(count: int = 72) -> list[dict[str, Any]]:
    """Two-turn conversations."""
    return [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": "JSON?"},
                {"role": "user", "content": f"Yes, {index}."},
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for index, row in enumerate(orders(count))
    ]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """One JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_model(folder: Path, name: str = "llama", *, seed: int = 0, template: str = CHATML) -> Path:
    """A Hugging Face folder with random weights, a byte-level BPE tokenizer and a ChatML template."""
    changes = {"vocab_size": VOCABULARY, "n_positions" if name == "gpt2" else "max_position_embeddings": 512}
    ids = {"bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1}
    random_causal({**tiny.CONFIGS[name], **changes, **ids}, seed=seed).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for row in orders() for text in row.values()], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[3],
        "pad_token": SPECIAL[1],
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def recipe(model: Path, **changes: Any) -> dict[str, Any]:
    """The plain recipe over `model` and orders.jsonl; `changes` replace whole sections, but are merged into train and evaluate."""
    body: dict[str, Any] = {
        "base": str(model),
        "data": {"sources": ["orders.jsonl"], "split": {"train": 0.6, "validation": 0.2, "test": 0.2}},
        "goal": {"task": "generate", "statement": "An order in words goes in, JSON comes out"},
        "method": "lora",
        "train": {
            "steps": 12,
            "batch": {"examples": 8},
            "optimizer": {"adamw": {"learning_rate": 0.02}},
            "validation": {"every": 4},
            "threads": 1,
        },
        "evaluate": {
            "metrics": ["perplexity", "json_valid"],
            "against": ["base", "few_shot"],
            "shots": 2,
            "max_new_tokens": 12,
            "resamples": 200,
            "general": False,
        },
    }
    for key, value in changes.items():
        body[key] = {**body[key], **value} if key in ("train", "evaluate") else value
    return body


def write(folder: Path, body: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """recipe.yaml and orders.jsonl in `folder`; the path of the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "orders.jsonl", orders() if rows is None else rows)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(dict(body), sort_keys=False), encoding="utf-8")
    return path


def command(*words: str | Path) -> list[str]:
    """A command line of this Python's own sartor."""
    return [sys.executable, "-m", "sartor", *map(str, words)]


@dataclass
class Done:
    """A finished run with what was seen of it."""

    recipe: Path
    ran: Ran
    events: list[Event]

    @property
    def folder(self) -> Path:
        return self.ran.folder

    def again(self, *overrides: str, allow: tuple[str, ...] = ()) -> Ran:
        return run(self.recipe, self.folder, overrides, allow, lambda event: None)


def finish(folder: Path, body: dict[str, Any], *overrides: str, rows: Any = None) -> Done:
    """Write a job into `folder` and run it to its end in folder/out."""
    recipe = write(folder, body, rows)
    events: list[Event] = []
    torch.set_num_threads(1)
    return Done(recipe, run(recipe, folder / "out", overrides, (), events.append), events)


def steps_taken(folder: Path) -> int:
    """The last step in a run's log."""
    log = folder / "events.jsonl"
    if not log.exists():
        return 0
    tail = [line for line in log.read_bytes().split(b"\n") if b'"event": "step"' in line]
    return int(json.loads(tail[-1])["step"]) if tail and tail[-1].endswith(b"}") else 0


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int, *, seconds: float = 240) -> None:
    """Return as soon as the run in `folder` has taken `step`; fails when its process ends before."""
    until = time.monotonic() + seconds
    while steps_taken(folder) < step:
        assert process.poll() is None, f"ended before step {step}: {process.communicate()}"
        assert time.monotonic() < until, f"step {step} was not reached in {seconds:g} s"
        time.sleep(0.005)
