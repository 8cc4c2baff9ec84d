"""The only file that names transformers' modelling classes; everything here runs offline and never runs a model's code."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AttentionInterface,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as hf_logging

from sartor.models.attention import NAME, attend_rows
from sartor.models.kinds import PIXELS

if TYPE_CHECKING:
    from sartor.models.heads import HeadSpec, Place
    from sartor.models.kinds import Kind

AttentionInterface.register(NAME, attend_rows)
hf_logging.disable_progress_bar()
logging.getLogger("transformers.distributed.tensor_parallel").setLevel(logging.ERROR)  # names every layer of a BERT
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout", "dropout")
"""Names under which model configurations keep the probability of their dropout layers."""


_WORDS: dict[Kind, Any] = {
    "causal": AutoModelForCausalLM,
    "encoder": AutoModelForMaskedLM,
    "encoder_decoder": AutoModelForSeq2SeqLM,
    "vision": AutoModelForImageTextToText,
}
_HEADED: dict[Place, tuple[Any, Any]] = {
    "sequence": (AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING),
    "tokens": (AutoModelForTokenClassification, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING),
}


def sees(config: PretrainedConfig) -> bool:
    """Whether transformers has a vision-text model of this configuration."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and hasattr(config, "vision_config")


def kind_of(config: PretrainedConfig) -> Kind | None:
    """What a configuration makes, by which of transformers' model classes take it; None: nothing that reads text.

    Of a folder, `kind_in` knows more: some see only where the files of a processor are there.
    """
    own = type(config)
    if getattr(config, "is_encoder_decoder", False):
        return "encoder_decoder" if own in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING else None
    if own in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "encoder"
    if own in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "causal"
    if sees(config):
        return "vision"
    return "encoder" if own in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING else None


def kind_in(folder: Path, config: PretrainedConfig) -> Kind | None:
    """The same of a folder: with the files of a processor in it, a model that can see does."""
    shown = any((folder / name).is_file() for name in PIXELS)
    return "vision" if shown and sees(config) else kind_of(config)


def takes_head(config: PretrainedConfig, head: HeadSpec) -> bool:
    """Whether transformers has a model of this configuration with such a head."""
    return type(config) in _HEADED[head.place][1]


def read_config(folder: Path, overrides: Mapping[str, Any], head: HeadSpec | None = None) -> PretrainedConfig:
    """config.json with other values, and with what `head` says."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for key, value in {**overrides, **(head.config() if head else {})}.items():
        setattr(config, key, value)
    return config


def load_model(
    folder: Path,
    config: PretrainedConfig,
    *,
    dtype: torch.dtype,
    head: HeadSpec | None = None,
    fresh: bool = False,
    seed: int = 0,
    quantization: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """A model from a folder of safetensors, the names of weights that were missing or unexpected, and of those drawn anew.

    Args:
        config: from `read_config`; `kind_in` and `takes_head` must know it.
        head: what stands on the hidden states; None: words.
        fresh: draw the head anew from `seed` whatever the folder has of one.
        quantization: settings of transformers' BitsAndBytesConfig; layers are quantised on `device`.
    """
    kind = kind_in(folder, config)
    assert kind is not None
    more: dict[str, Any] = {"attn_implementation": "sdpa"} if kind == "causal" else {}
    if quantization is not None:
        more |= {"quantization_config": BitsAndBytesConfig(**quantization), "device_map": {"": device}}
    with torch.random.fork_rng(devices=[]), _unreported():
        torch.manual_seed(seed)
        model, info = _auto(kind, head).from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=fresh,
            **more,
        )
        beside = _beside_trunk(model) if fresh else []
        for name in beside:
            _draw(model.get_submodule(name), float(getattr(config, "initializer_range", None) or 0.02))
    found = {name: set(map(_named, info[f"{name}_keys"])) for name in ("missing", "unexpected", "mismatched")}
    drawn = _drawn(found["missing"], model, skeleton(folder)) if fresh else set()
    found["missing"] -= drawn
    found["mismatched"] = {name for name in found["mismatched"] if name.split(".")[0] not in beside}
    if head is not None or kind not in ("causal", "vision"):
        found["unexpected"] -= _left_out(found["unexpected"], model)
    return model, [f"{name} {key}" for name, keys in found.items() for key in sorted(keys)], sorted(drawn)


def _named(entry: str | tuple[Any, ...]) -> str:
    """The weight's name; transformers gives the two shapes with it where they differ."""
    return entry if isinstance(entry, str) else str(entry[0])


@contextmanager
def _unreported() -> Iterator[None]:
    """Without transformers' table of missing and unexpected weights: they are returned, and told where they matter."""
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _auto(kind: Kind, head: HeadSpec | None) -> Any:
    return _WORDS[kind] if head is None else _HEADED[head.place][0]


def _bare(name: str, model: PreTrainedModel) -> str:
    """A weight's name in the trunk, however the trunk is called."""
    return name.removeprefix(f"{model.base_model_prefix}.")


def _drawn(missing: set[str], model: PreTrainedModel, words: PreTrainedModel) -> set[str]:
    """Which of the missing weights a head of words does without, so that they belong to the new head."""
    trunk = {_bare(name, words) for name in words.state_dict()}
    return {name for name in missing if _bare(name, model) not in trunk}


def _left_out(unexpected: set[str], model: PreTrainedModel) -> set[str]:
    """Which of a file's further weights belong to another head than the model's, and not to its trunk."""
    with torch.device("meta"):
        trunk = list(AutoModel.from_config(model.config).state_dict())
    parts = {name.split(".")[0] for name in trunk}
    return {name for name in unexpected if _bare(name, model) in trunk or _bare(name, model).split(".")[0] not in parts}


@torch.no_grad()
def _draw(part: torch.nn.Module, deviation: float) -> None:
    """Fresh weights as transformers gives them to heads: matrices from a normal distribution, biases zero."""
    for layer in part.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.normal_(0.0, deviation)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, torch.nn.LayerNorm):
            layer.reset_parameters()


def _beside_trunk(model: PreTrainedModel) -> list[str]:
    return [name for name, part in model.named_children() if part is not model.base_model]


def random_causal(config: Mapping[str, Any], *, seed: int) -> PreTrainedModel:
    """A causal language model with freshly drawn fp32 weights, from the contents of a config.json."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(_config(config), dtype=torch.float32)
    return model


def random_model(config: Mapping[str, Any], *, seed: int, head: HeadSpec | None = None) -> PreTrainedModel:
    """A model of whatever kind the contents of a config.json describe, with freshly drawn fp32 weights."""
    settings = _config({**config, **(head.config() if head else {})})
    kind = kind_of(settings)
    assert kind is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = _auto(kind, head).from_config(settings, dtype=torch.float32)
    return model


def _config(fields: Mapping[str, Any]) -> PretrainedConfig:
    fields = dict(fields)
    made: PretrainedConfig = AutoConfig.for_model(fields.pop("model_type"), **fields)
    return made


def skeleton(folder: Path, head: HeadSpec | None = None) -> PreTrainedModel:
    """The model of a folder without its numbers: names, shapes and settings."""
    config = read_config(folder, {}, head)
    with torch.device("meta"):
        model: PreTrainedModel = _auto(kind_in(folder, config) or "causal", head).from_config(config)
    return model


def head_parts(folder: Path, head: HeadSpec) -> list[str]:
    """Names of the modules that a head of a folder's model consists of: those beside the trunk, and what words do without."""
    model = skeleton(folder, head)
    own = _drawn(set(model.state_dict()), model, skeleton(folder))
    inside = f"{model.base_model_prefix}."
    return sorted({".".join(name.split(".")[: 2 if name.startswith(inside) else 1]) for name in own})


def load_rewriter(folder: Path, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of an encoder-decoder that turns one text into another; ready to be asked."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_masked(folder: Path, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a masked language model; ready to be asked."""
    model = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)
