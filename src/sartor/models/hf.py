"""The only file that names transformers' modelling classes; everything here runs offline and never runs a model's code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as hf_logging

from sartor.models.attention import NAME, attend_rows

AttentionInterface.register(NAME, attend_rows)
hf_logging.disable_progress_bar()
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout", "dropout")
"""Names under which model configurations keep the probability of their dropout layers."""


def load_causal(
    folder: Path,
    *,
    dtype: torch.dtype,
    attention: str,
    overrides: Mapping[str, Any],
    quantization: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> tuple[PreTrainedModel, list[str]]:
    """A causal language model from a folder of safetensors, and the names of weights that were missing or unexpected.

    With `quantization`, settings of transformers' BitsAndBytesConfig, its layers are quantised on `device`.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for key, value in overrides.items():
        setattr(config, key, value)
    quantised: dict[str, Any] = {}
    if quantization is not None:
        quantised = {"quantization_config": BitsAndBytesConfig(**quantization), "device_map": {"": device}}
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        attn_implementation=attention,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        **quantised,
    )
    wrong = [
        f"{kind[:-5]} {key}" for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind]
    ]
    return model, wrong


def random_causal(config: Mapping[str, Any], *, seed: int) -> PreTrainedModel:
    """A causal language model with freshly drawn fp32 weights, from the contents of a config.json."""
    fields = dict(config)
    settings = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    return model


def skeleton(folder: Path) -> PreTrainedModel:
    """The causal language model of a folder without its numbers: names, shapes and settings."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def load_rewriter(folder: Path, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of an encoder-decoder that turns one text into another; ready to be asked."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_masked(folder: Path, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a masked language model; ready to be asked."""
    model = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
