"""Where in a model new weights go: layers by the ends of their paths, and the names that architectures give to their parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from sartor.options import Options

LAYER = re.compile(r"\.(\d+)\.")
KEYS_VALUES = (
    *("k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv", "in_proj_qkv", "wk", "wv"),
    *("key", "value", "key_proj", "value_proj", "k_lin", "v_lin"),
    *("SelfAttention.k", "SelfAttention.v", "EncDecAttention.k", "EncDecAttention.v"),
)
"""Layers whose outputs are keys or values, alone or together with queries."""
ATTENTION_ENDS = (
    *("self_attn.o_proj", "self_attn.out_proj", "self_attn.dense", "attention.dense", "self_attention.dense"),
    *("attn.c_proj", "attn.out_proj", "attn.attention.out_proj", "attention.wo", "encoder_attn.out_proj"),
    *("attention.output.dense", "attention.out_lin", "SelfAttention.o", "EncDecAttention.o"),
)
"""The last layer of attention, whose output has the width of the hidden state."""
FEED_FORWARD_ENDS = (
    *(
        "mlp.down_proj",
        "mlp.c_proj",
        "mlp.dense_4h_to_h",
        "mlp.fc2",
        "mlp.fc_out",
        "feed_forward.w2",
        "mlp.output_linear",
    ),
    *("ffn.down_proj", "fc2", "mlp.dense_2", "output.dense", "ffn.lin2", "DenseReluDense.wo", "mlp.Wo"),
)
"""The last layer of the feed-forward part; BERT's name for it is one for the end of attention as well."""


class Places(Options):
    """The linear layers that are changed."""

    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the linear layers that are changed; all-linear is every one but the output head."""

    @property
    def targets(self) -> tuple[str, ...] | None:
        """Ends of the paths of the layers; None: all linear layers."""
        return None if self.target_modules == "all-linear" else self.target_modules


def ends(paths: Iterable[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of `wanted` in which one of the paths of modules ends."""
    known = [f".{path}" for path in paths]
    return tuple(name for name in wanted if any(path.endswith(f".{name}") for path in known))
