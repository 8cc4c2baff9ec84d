"""Whether a model reads both ways, writes, does one and then the other, or sees: told by its files, without torch.

The configuration says so where it names what the weights were saved from; otherwise the tokenizer does: a model that knows a
mask token and a token for whole texts reads both ways. What transformers then makes of it is held against this when it is opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sartor.models.catalog import ModelFolder

Kind = Literal["causal", "encoder", "encoder_decoder", "vision"]
TOLD: dict[Kind, str] = {
    "causal": "a decoder",
    "encoder": "an encoder",
    "encoder_decoder": "an encoder-decoder",
    "vision": "a vision-text model",
}
"""What people call them."""
PIXELS = ("preprocessor_config.json", "processor_config.json")
"""Files that say how a model takes images."""
_BOTH_WAYS = ("ForMaskedLM", "ForPreTraining")
_WRITES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def kind_of(folder: ModelFolder) -> Kind:
    """The kind of a model; of an adapter, that of its base."""
    root = folder.root
    config: Mapping[str, Any] = root.config
    if "vision_config" in config and any((root.path / name).is_file() for name in PIXELS):
        return "vision"
    if config.get("is_encoder_decoder"):
        return "encoder_decoder"
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith(_WRITES) for name in names) or config.get("is_decoder"):
        return "causal"
    if any(name.endswith(_BOTH_WAYS) for name in names):
        return "encoder"
    about = _tokenizer(root)
    return "encoder" if about.get("mask_token") and about.get("cls_token") else "causal"


def reach(folder: ModelFolder) -> int | None:
    """Longest row that a model reads, in tokens; of an encoder what its tokenizer says, where positions begin behind padding's."""
    window, root = folder.root.window, folder.root
    if window is None or kind_of(folder) != "encoder":
        return window
    told = _tokenizer(root).get("model_max_length")
    return min(window, told) if isinstance(told, int) and told > 0 else window


def _tokenizer(root: ModelFolder) -> Mapping[str, Any]:
    file = root.path / "tokenizer_config.json"
    found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
