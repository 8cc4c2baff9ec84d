"""Tiny random models and token sets for tests: made in milliseconds, never downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sartor.engine.loop import Plan, fit
from sartor.engine.optimizers import adamw
from sartor.engine.schedules import constant
from sartor.engine.updater import Updater
from sartor.events import Event
from sartor.models.heads import HeadSpec
from sartor.models.hf import random_model
from sartor.models.load import policy_of
from sartor.models.policy import CausalPolicy
from sartor.objectives import sft
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Batch, Rendered
from sartor.tokens.source import StepSize, TokenSource

VOCABULARY = 300
_COMMON = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
           "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}  # fmt: skip
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256,
         "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **_COMMON, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", **_COMMON, "head_dim": 8},
    "gemma3": {"model_type": "gemma3_text", **_COMMON, "head_dim": 8, "sliding_window": 4},
    "gpt2": {"model_type": "gpt2", **_GPT2},
    "mistral": {"model_type": "mistral", **_COMMON, "sliding_window": 4},
    "phi3": {"model_type": "phi3", **_COMMON},
}
"""The decoders every feature must work with."""
_ENCODER = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1,
            "cls_token_id": 0, "sep_token_id": 1}  # fmt: skip
_STEADY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **_ENCODER, **_STEADY, "max_position_embeddings": 256},
    "roberta": {"model_type": "roberta", **_ENCODER, **_STEADY, "max_position_embeddings": 259, "type_vocab_size": 1},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": VOCABULARY,
        "dim": 32,
        "hidden_dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 256,
        "pad_token_id": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    },
    "modernbert": {
        "model_type": "modernbert",
        **_ENCODER,
        "max_position_embeddings": 256,
        "local_attention": 8,
        "num_hidden_layers": 3,
        "global_attn_every_n_layers": 2,
    },
    "deberta": {
        "model_type": "deberta-v2",
        **_ENCODER,
        **_STEADY,
        "max_position_embeddings": 256,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "pooler_hidden_size": 32,
    },
}
"""Models that read both ways."""
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "t5": {
        "model_type": "t5",
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "n_positions": 256,
        "pad_token_id": 2,
        "eos_token_id": 1,
        "decoder_start_token_id": 2,
    },
    "bart": {
        "model_type": "bart",
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 256,
        "dropout": 0.0,
        "pad_token_id": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": None,
    },
}
"""Models that read one text and write another."""
VISION: dict[str, dict[str, Any]] = {
    "llava": {
        "model_type": "llava",
        "text_config": {"model_type": "llama", **_COMMON},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "projection_dim": 24,
        },
        "image_token_index": VOCABULARY - 1,
        "pad_token_id": 2,
        "eos_token_id": 1,
    }
}
"""Models that see; with processors, tests/seeing.py."""
EVERY = CONFIGS | ENCODERS | ENCODER_DECODERS | VISION


def policy(
    name: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, kernels: bool = True, **changes: Any
) -> Any:
    """A probed policy over a random model with words."""
    return policy_of(random_model({**EVERY[name], **changes}, seed=seed).to(dtype), kernels=kernels)


def headed(
    name: str,
    head: HeadSpec,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    kernels: bool = True,
    **changes: Any,
) -> Any:
    """A probed policy over a random model with a head."""
    model = random_model({**EVERY[name], **changes}, seed=seed, head=head).to(dtype)
    return policy_of(model, kernels=kernels, head=head)


class Rows:
    """An in-memory stand-in for a TokenSet."""

    def __init__(self, rows: Sequence[Rendered]) -> None:
        self._rows = list(rows)
        self.lengths = np.asarray([len(row) for row in rows])
        self.rows = np.asarray([row.row for row in rows])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Rendered:
        return self._rows[index]


def rows(count: int, *, seed: int = 0, longest: int = 24) -> list[Rendered]:
    """Ragged rows with a masked prompt, fractional weights in some."""
    draw = np.random.default_rng(seed)
    made = []
    for index in range(count):
        length = int(draw.integers(3, longest))
        weight = np.ones(length, np.float32)
        weight[: length // 2] = 0
        if index % 5 == 0:
            weight[-1] = 0.5
        made.append(Rendered(draw.integers(3, VOCABULARY, length).astype(np.int32), weight, index))
    return made


def updater(
    over: CausalPolicy,
    *,
    rate: float = 1e-2,
    clip: float = 1.0,
    optimizer: Any = adamw,
    weights: Any = None,
    **options: Any,
) -> Updater:
    """An optimiser over everything that moves, as `weights` hold it where they are given."""
    settings = optimizer.Options(**options)
    return Updater(weights or over.trainable(), optimizer, settings, learning_rate=rate, clip_norm=clip)


def objective(over: Any, batch: Batch) -> Any:
    """Supervised fine-tuning without options."""
    return sft.loss(over, batch, sft.Options())


def train(
    over: CausalPolicy,
    data: Sequence[Rendered],
    folder: Path,
    *,
    examples: int = 8,
    micro_tokens: int | None = 64,
    epochs: float = 2.0,
    rate: float = 1e-2,
    validate: Callable[[], dict[str, float]] | None = None,
    watchers: Sequence[Any] = (),
    stop_asked: Callable[[], bool] = lambda: False,
    optimizer: Any = adamw,
    **plan: Any,
) -> list[Event]:
    """Run the engine to its end and return every event."""
    source = TokenSource(Rows(data), size=StepSize(examples=examples), micro_tokens=micro_tokens, seed=3, epochs=epochs)
    settings = constant.Options(warmup=0.0)
    numbers: dict[str, Any] = {
        "seed": 3,
        "factor": lambda step, steps: constant.factor(step, steps, settings),
        "validate_every": 4,
        "save_every": 3,
        **plan,
    }
    return list(
        fit(
            over,
            objective,
            source,
            updater(over, rate=rate, optimizer=optimizer),
            Plan(**numbers),
            validate=validate,
            watchers=watchers,
            checkpoints=Checkpoints(folder, lambda note: None),
            stop_asked=stop_asked,
        )
    )


def weights(over: CausalPolicy) -> dict[str, torch.Tensor]:
    """Copies of all parameters."""
    return {name: tensor.detach().clone() for name, tensor in over.model.named_parameters()}


def save_folder(folder: Path, name: str = "llama", *, seed: int = 0) -> Path:
    """A Hugging Face folder with random weights (no tokenizer)."""
    random_model(EVERY[name], seed=seed).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"]
    return folder


def gradients(over: CausalPolicy, batches: Sequence[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss over batches and the gradient of every weight."""
    over.model.requires_grad_(True)
    over.model.zero_grad()
    total = weight = 0.0
    for batch in batches:
        loss = objective(over, batch)
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
    return total / weight, {name: p.grad / weight for name, p in over.model.named_parameters()}


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    """Gradients equal to rounding, relative to the largest of all."""
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).abs().max()) <= tolerance * scale, name
