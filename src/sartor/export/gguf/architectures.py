"""Architectures that llama.cpp computes as transformers does: names of weights, settings, and what is done to weights.

What llama.cpp has wired in and a configuration may say otherwise (the pattern of sliding layers, the scale of attention) is
folded into weights where that is exact, and refused where it is not. Weights are named without the prefix of the trunk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Settings = Mapping[str, Any]
"""config.json as transformers completes it."""
BLOCK = re.compile(r"(?:layers|h)\.(\d+)\.(.+)\.(weight|bias)")
OUTER = {
    "embed_tokens.weight": "token_embd.weight",
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "norm.weight": "output_norm.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
    "lm_head.weight": "output.weight",
    "lm_head.bias": "output.bias",
}
_ATTENTION = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
_FEED_FORWARD = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_TWO_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_FOUR_NORMS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
USUAL = _ATTENTION | _FEED_FORWARD | _TWO_NORMS
WITHIN_LLAMA_27B = {"gemma3_text": 62}
"""Layers of the models for which llama.cpp scales attention by the mean size of a head."""


class Unfit(ValueError):
    """llama.cpp would compute something else."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One family of models."""

    name: str
    """What GGUF calls it."""
    inner: Mapping[str, str]
    """Name of a layer's part -> name in the file."""
    settings: Callable[[Settings], dict[str, Any]]
    """Keys below the architecture's name. Raises Unfit."""
    change: Callable[[str, np.ndarray, Settings], np.ndarray]
    """(name in the file, fp32 weight, configuration) -> the weight as llama.cpp wants it."""

    def named(self, name: str) -> str:
        """A weight's name in the file. Raises Unfit for one that llama.cpp has no place for."""
        if name in OUTER:
            return OUTER[name]
        found = BLOCK.fullmatch(name)
        if found is None or found[2] not in self.inner:
            raise Unfit(f"llama.cpp has no place for {name}")
        return f"blk.{found[1]}.{self.inner[found[2]]}.{found[3]}"


def _head(config: Settings) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rope(config: Settings) -> Mapping[str, Any]:
    """The settings of rotary positions, of the layers that see everything where there are two kinds."""
    found: Mapping[str, Any] = config.get("rope_parameters") or {}
    full: Mapping[str, Any] = found.get("full_attention", found)
    return full


def _usual(config: Settings) -> dict[str, Any]:
    """What all but GPT-2 have."""
    rope, head = _rope(config), _head(config)
    heads = config["num_attention_heads"]
    turned = int(head * float(rope.get("partial_rotary_factor") or 1.0))
    return {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": turned,
        "rope.freq_base": float(rope.get("rope_theta") or 10000.0),
        **_scaled(rope, config),
    }


def _scaled(rope: Mapping[str, Any], config: Settings) -> dict[str, Any]:
    kind = rope.get("rope_type", "default")
    if kind in ("default", "llama3"):
        return {}
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    raise Unfit(f"rotary positions of kind {kind} are not written")


def _within(config: Settings, settings: dict[str, Any]) -> dict[str, Any]:
    """A window that llama.cpp does not know: up to its length nothing slides, so that is the context."""
    window = config.get("sliding_window")
    if window:
        settings["context_length"] = min(settings["context_length"], int(window))
    return settings


def _llama(config: Settings) -> dict[str, Any]:
    return _within(config, _usual(config))


def _qwen(config: Settings) -> dict[str, Any]:
    if config.get("use_sliding_window"):
        raise Unfit("use_sliding_window is on, which llama.cpp does not know for this family")
    return _usual(config)


def _gemma(config: Settings) -> dict[str, Any]:
    return _usual(config)


def _gemma3(config: Settings) -> dict[str, Any]:
    _pattern(config, 6)
    if config.get("attn_logit_softcapping") or config.get("final_logit_softcapping"):
        raise Unfit("llama.cpp caps no logits of this family")
    rope: Mapping[str, Any] = config.get("rope_parameters") or {}
    local = float(rope.get("sliding_attention", {}).get("rope_theta") or config.get("rope_local_base_freq") or 10000.0)
    return _usual(config) | {
        "attention.sliding_window": int(config["sliding_window"]),
        "rope.freq_base_swa": local,
    }


def _pattern(config: Settings, every: int) -> None:
    """The layers that see everything must be the last of each `every`."""
    kinds = list(config.get("layer_types") or ())
    wired = ["full_attention" if (at + 1) % every == 0 else "sliding_attention" for at in range(len(kinds))]
    if kinds != wired:
        raise Unfit(f"the pattern of its sliding layers is not one full layer after {every - 1}, as llama.cpp has it")


def _phi3(config: Settings) -> dict[str, Any]:
    return _within(config, _usual(config))


def _gpt2(config: Settings) -> dict[str, Any]:
    if config.get("scale_attn_by_inverse_layer_idx") or not config.get("scale_attn_weights", True):
        raise Unfit("its attention is scaled in a way llama.cpp does not know")
    return {
        "vocab_size": config["vocab_size"],
        "context_length": config["n_positions"],
        "embedding_length": config["n_embd"],
        "block_count": config["n_layer"],
        "feed_forward_length": config.get("n_inner") or 4 * config["n_embd"],
        "attention.head_count": config["n_head"],
        "attention.layer_norm_epsilon": float(config["layer_norm_epsilon"]),
    }


def _as_it_is(name: str, weight: np.ndarray, config: Settings) -> np.ndarray:
    return weight


def _turned(name: str, weight: np.ndarray, config: Settings) -> np.ndarray:
    """Rows of queries and keys in the order of llama.cpp's rotary positions: pairs side by side, not halves."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config.get("num_key_value_heads")}
    part = name.split(".")[-2]
    if part not in heads:
        return weight
    count = heads[part] or config["num_attention_heads"]
    halves = weight.reshape(count, 2, weight.shape[0] // count // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _plus_one(name: str, weight: np.ndarray, config: Settings) -> np.ndarray:
    """Gemma's norms multiply by 1 + w; queries bring the scale of attention where it is not llama.cpp's own."""
    made = weight + 1.0 if name.endswith("norm.weight") else weight
    kind = str(config["model_type"])
    wanted = config.get("query_pre_attn_scalar")
    carrier = {"gemma3_text": "attn_q_norm.weight"}.get(kind)
    if wanted is None or carrier is None or not name.endswith(carrier):
        return made
    own = _head(config)
    if config["num_hidden_layers"] == WITHIN_LLAMA_27B[kind]:
        own = config["hidden_size"] // config["num_attention_heads"]
    return made if own == wanted else made * math.sqrt(own / float(wanted))


def _transposed(name: str, weight: np.ndarray, config: Settings) -> np.ndarray:
    """GPT-2 stores its layers [in, out]."""
    turned = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    return np.ascontiguousarray(weight.T) if name.endswith(turned) else weight


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("llama", USUAL, _llama, _turned),
    "mistral": Architecture("llama", USUAL, _llama, _turned),
    "qwen2": Architecture("qwen2", USUAL, _qwen, _as_it_is),
    "qwen3": Architecture("qwen3", USUAL, _qwen, _as_it_is),
    "gemma": Architecture("gemma", USUAL, _gemma, _plus_one),
    "gemma3_text": Architecture("gemma3", _ATTENTION | _FEED_FORWARD | _FOUR_NORMS, _gemma3, _plus_one),
    "phi3": Architecture(
        "phi3",
        {
            "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down", **_TWO_NORMS,
        },
        _phi3,
        _as_it_is,
    ),
    "gpt2": Architecture(
        "gpt2",
        {
            "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
            "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
        },
        _gpt2,
        _transposed,
    ),
}  # fmt: skip
"""By model_type of config.json."""


def extra(config: Settings) -> Iterator[tuple[str, np.ndarray]]:
    """Weights that llama.cpp wants and transformers computes: what Llama 3.1 divides its rotary frequencies by."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return
    head = _head(config)
    base, factor = float(rope["rope_theta"]), float(rope["factor"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    window = float(rope["original_max_position_embeddings"])
    waves = 2 * math.pi * base ** (np.arange(0, head, 2, dtype=np.float64) / head)
    share = np.clip((window / waves - low) / (high - low), 0.0, 1.0)
    yield "rope_freqs.weight", (1.0 / ((1 - share) / factor + share)).astype(np.float32)
