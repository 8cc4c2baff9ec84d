"""Makes the embedded base model `sartor/nano` from a folder of tokenised text, with Sartor's own objective and engine.

    python scripts/make_nano.py TEXT_FOLDER WORK_FOLDER [--steps N]

TEXT_FOLDER holds `train.u16.xz` and `val.u16` (little-endian uint16 token ids, every document begins with <|endoftext|>) and
`tokenizer/`. WORK_FOLDER receives checkpoints (the script resumes from them) and, at the end, `nano/`: the model folder.

Two dialogues in three are put into the chat template's form, so that the base knows its control tokens.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from sartor.engine.loop import Plan, fit
from sartor.engine.optimizers import adamw
from sartor.engine.schedules import cosine
from sartor.engine.updater import Updater
from sartor.engine.validation import mean_loss
from sartor.engine.watchers import best
from sartor.events import Noted, Stepped, Validated
from sartor.models.attention import NAME
from sartor.models.hf import random_causal
from sartor.models.policy import CausalPolicy, Exactness
from sartor.models.probe import probe
from sartor.objectives import pretrain
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.source import StepSize, TokenSource

WINDOW = 1024
SEED = 17
CONFIG = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "tie_word_embeddings": True,
    "rope_theta": 10000.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
STEP = StepSize(tokens=8192)
OPTIMIZER = adamw.Options(learning_rate=3e-3, weight_decay=0.1)
SCHEDULE = cosine.Options(warmup=0.03, floor=0.05)


class Windows:
    """Documents cut into windows that overlap by one token, so that every token is a target exactly once."""

    def __init__(self, documents: list[np.ndarray]) -> None:
        self._documents = documents
        cuts = [
            (number, start, min(start + WINDOW, len(document)))
            for number, document in enumerate(documents)
            for start in range(0, len(document) - 1, WINDOW - 1)
        ]
        self._cuts = cuts
        self.lengths = np.asarray([end - start for _, start, end in cuts])

    def __len__(self) -> int:
        return len(self._cuts)

    def __getitem__(self, index: int) -> Rendered:
        number, start, end = self._cuts[index]
        ids = self._documents[number][start:end].astype(np.int32)
        return Rendered(ids, np.ones(len(ids), np.float32), index)


def documents(ids: np.ndarray, eos: int) -> list[np.ndarray]:
    """One array per document, with the end token at both ends."""
    starts = np.flatnonzero(ids == eos)
    ends = np.append(starts[1:], len(ids))
    return [np.append(ids[start:end], eos) for start, end in zip(starts, ends, strict=True) if end - start > 1]


def as_chat(document: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """A dialogue `User: ... Assistant: ...` as turns of the chat template; other documents as they are."""
    text = tokenizer.decode(document.tolist(), skip_special_tokens=True)
    if not text.startswith("User: "):
        return document
    turns = []
    for line in text.split("\n"):
        speaker, _, content = line.partition(": ")
        if speaker in ("User", "Assistant"):
            turns.append(f"<|im_start|>{speaker.lower()}\n{content}<|im_end|>\n")
    return np.asarray(tokenizer.encode("".join(turns), add_special_tokens=False).ids, dtype=np.uint16)


def corpus(folder: Path) -> tuple[Windows, Windows]:
    """Training and validation windows."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    eos = CONFIG["eos_token_id"]
    packed = (folder / "train.u16.xz").read_bytes()
    train = documents(np.frombuffer(lzma.decompress(packed), dtype="<u2"), eos)
    train = [as_chat(document, tokenizer) if number % 3 else document for number, document in enumerate(train)]
    return Windows(train), Windows(documents(np.fromfile(folder / "val.u16", dtype="<u2"), eos))


def main() -> None:
    """Train, resume, and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=2600)
    options = parser.parse_args()

    model = random_causal(CONFIG, seed=SEED).to(torch.bfloat16)
    model.set_attn_implementation(NAME)
    policy = CausalPolicy(model, device=torch.device("cpu"), exact=Exactness())
    policy.exact = probe(policy)
    train, held_out = corpus(options.text)
    source = TokenSource(train, size=STEP, micro_tokens=8192, seed=SEED, steps=options.steps)
    updater = Updater(policy.trainable(), adamw, OPTIMIZER, learning_rate=OPTIMIZER.learning_rate, clip_norm=1.0)
    plan = Plan(
        seed=SEED,
        factor=lambda step, steps: cosine.factor(step, steps, SCHEDULE),
        validate_every=200,
        save_every=100,
        keep=2,
    )
    sample = [held_out[index] for index in range(0, len(held_out), 3)]
    batches = [collate(sample[start : start + 8]) for start in range(0, len(sample), 8)]

    def note(event: Noted) -> None:
        print(event.message, flush=True)

    began = time.time()
    for event in fit(
        policy,
        lambda policy, batch: pretrain.loss(policy, batch, pretrain.Options()),
        source,
        updater,
        plan,
        validate=lambda: mean_loss(policy, iter(batches)),
        watchers=[best.build("loss", sign=-1.0, min_delta=0.0, patience=0)],
        checkpoints=Checkpoints(options.work / "checkpoints", note),
    ):
        if isinstance(event, Stepped) and event.step % 20:
            continue
        print(f"{time.time() - began:8.0f} s  {event}", flush=True)
        if isinstance(event, Validated) and event.step and event.step % 1000 == 0:
            write(policy, options, held_out, event.step)
    write(policy, options, held_out, options.steps)


def write(policy: CausalPolicy, options: argparse.Namespace, held_out: Windows, step: int) -> None:
    """The model folder, with what was measured on all held-out text."""
    folder = options.work / "nano"
    policy.model.save_pretrained(folder, safe_serialization=True)
    for file in (options.text / "tokenizer").iterdir():
        shutil.copyfile(file, folder / file.name)
    rows = [held_out[index] for index in range(len(held_out))]
    measured = mean_loss(policy, (collate(rows[i : i + 8]) for i in range(0, len(rows), 8)))
    tokens = sum(len(row) - 1 for row in rows)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    size = sum(len(tokenizer.decode(row.ids[1:].tolist()).encode()) for row in rows)
    measured["bits_per_byte"] = measured["loss"] * tokens / math.log(2) / size
    facts = {
        "step": step,
        "steps": options.steps,
        "tokens_per_step": STEP.tokens,
        "held_out": measured,
        "config": CONFIG,
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts["held_out"]), flush=True)


if __name__ == "__main__":
    main()
