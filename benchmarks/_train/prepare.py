"""Makes the work folder: the model with random weights, the rows, and how each contender finds them.

python -m _train.prepare FOLDER --shape 15m --method full --warmup 2 --steps 8 [--threads N]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

from _train.ours import material
from _train.work import ALPHA, RANK, SEED, SHAPES, Work, draw_ids, draw_lengths, prompt_lengths
from sartor.models.hf import random_causal
from sartor.tokens.batch import Rendered
from sartor.tokens.source import StepSize, TokenSource
from sartor.tokens.store import TokenSet


def recipe(shape: str, method: str, steps: int, threads: str, rate: str) -> str:
    """What a user would write for this work; everything else is left to the advisor."""
    how = f"{{lora: {{rank: {RANK}, alpha: {ALPHA}}}}}" if method == "lora" else method
    return f"""\
base: ./model
data: rows.jsonl
method: {how}
train:
  steps: {steps}
  batch: {{examples: {SHAPES[shape].rows}}}
  optimizer: {{adamw: {{learning_rate: {rate}}}}}
  schedule: {{constant: {{warmup: 0.0}}}}
  checkpoint: {{every: 1000000}}
  threads: {threads}
"""


def save_model(folder: Path, shape: str) -> None:
    """fp32 safetensors, and a tokenizer that knows the three special tokens; the rows are tokens already."""
    random_causal(SHAPES[shape].config(), seed=SEED).save_pretrained(folder)
    names = ["<begin>", "<end>", "<pad>"]
    Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token=names[0])).save(
        str(folder / "tokenizer.json")
    )
    about = {"bos_token": names[0], "eos_token": names[1], "pad_token": names[2]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **about}))


def in_our_order(rows: list[Rendered], folder: Path, size: int, seed: int) -> None:
    """Store rows so that TokenSource, which shuffles, gives steps of `size` rows in the order of `rows`."""
    shuffled = TokenSource(
        TokenSet.write(rows, folder), size=StepSize(examples=size), micro_tokens=None, seed=seed, epochs=1.0
    )
    places = [row for _ in range(shuffled.steps) for row in shuffled.take().rows]
    TokenSet.write([rows[index] for index in np.argsort(places)], folder)


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--method", choices=("full", "lora"), required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", default="auto")
    asked = parser.parse_args()
    folder, shape, steps = asked.folder, SHAPES[asked.shape], asked.warmup + asked.steps
    draw = np.random.default_rng(SEED)
    lengths = draw_lengths(shape, steps, draw)
    prompts, flat = prompt_lengths(lengths), draw_ids(shape, sum(lengths), draw)
    np.savez(folder / "rows.npz", ids=flat)
    rows = []
    for index, ids in enumerate(np.split(flat, np.cumsum(lengths)[:-1])):
        weight = np.ones(len(ids), np.float32)
        weight[: prompts[index]] = 0
        rows.append(Rendered(ids, weight, index))
    save_model(folder / "model", asked.shape)
    text = recipe(asked.shape, asked.method, steps, asked.threads, "auto")
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    TokenSet.write([], folder / "tokens" / "validation")
    TokenSet.write(rows, folder / "tokens" / "train")
    ready = material(folder)
    in_our_order(rows, folder / "tokens" / "train", shape.rows, ready.loaded.recipe.seed)
    settings = ready.settings
    text = recipe(asked.shape, asked.method, steps, asked.threads, f"{settings.learning_rate:g}")
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    work = Work(
        folder,
        asked.shape,
        asked.method,
        settings.device,
        settings.threads,
        asked.warmup,
        asked.steps,
        settings.learning_rate,
        lengths,
        prompts,
    )
    work.save()


if __name__ == "__main__":
    main()
