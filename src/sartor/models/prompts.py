"""Virtual places that PEFT holds outside of the layers: prompt tuning (their embeddings) and prefix tuning (keys and values).

PEFT's own model runs them with a cache and a padded batch. Here they are a segment that all rows of a packed batch continue, and
the first places of a slot in generation; whether that gives what PEFT's forward pass gives is measured when they are attached.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sartor.errors import ModelError, Problem
from sartor.models.adapter import FIRST
from sartor.models.adapters import PeftAdapter, read_prompt, wrap_prompt
from sartor.models.policy import CausalPolicy
from sartor.models.probe import TOLERANCE, sample
from sartor.models.virtual import Layers, Virtual
from sartor.tokens.batch import collate

if TYPE_CHECKING:
    from collections.abc import Callable

    from sartor.models.base import ModelPolicy

PREFIX = "prefix_encoders"
"""Where a model holds what makes its prefixes."""


class VirtualEmbedding(torch.nn.Module):
    """In the place of a model's embedding: ids behind its vocabulary are those of the virtual places in use."""

    def __init__(self, base_layer: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.tables = torch.nn.ModuleList()
        self.used = 0

    @property
    def weight(self) -> torch.Tensor:
        """The embedding's own."""
        own: torch.Tensor = self.base_layer.weight  # type: ignore[assignment]
        return own

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[...] -> [..., H]."""
        size = len(self.weight)
        words: torch.Tensor = self.base_layer(ids.clamp_max(size - 1))
        table: torch.Tensor = self.tables[self.used].weight  # type: ignore[assignment]
        places = (ids >= size).nonzero(as_tuple=True)
        return words.index_put(places, table[ids[places] - size].to(words.dtype))


class PromptAdapter(PeftAdapter):
    """Implements `Adapter`: embeddings of virtual places."""

    def __init__(self, peft: Any, name: str, embedding: VirtualEmbedding) -> None:
        super().__init__(peft, name)
        self.embedding, self.number = embedding, len(embedding.tables)
        embedding.tables.append(peft.prompt_encoder[name].embedding)
        self.virtual = Virtual(peft.peft_config[name].num_virtual_tokens)

    def on(self) -> None:
        """Take part in what the model computes."""
        super().on()
        self.embedding.used = self.number

    def off(self) -> None:
        """Nothing in the model changes: no row begins with its places any more."""


class PrefixAdapter(PeftAdapter):
    """Implements `Adapter`: keys and values of virtual places, in every layer."""

    def __init__(self, peft: Any, name: str) -> None:
        super().__init__(peft, name)
        self.virtual = Virtual(peft.peft_config[name].num_virtual_tokens, self.layers)

    def layers(self) -> Layers:
        """[k, K, D] twice for each layer."""
        config, encoder = self.peft.peft_config[self.name], self.peft.prompt_encoder[self.name]
        if config.inference_mode:
            flat = encoder.embedding.weight
        else:
            flat = encoder(torch.arange(config.num_virtual_tokens, device=encoder.embedding.weight.device)[None])[0]
        heads = config.num_attention_heads
        parts = flat.view(len(flat), 2 * config.num_layers, heads, config.token_dim // heads).unbind(dim=1)
        return list(zip(parts[::2], parts[1::2], strict=True))

    def off(self) -> None:
        """Nothing in the model changes: no row begins with its places any more."""


def add_prompt(policy: ModelPolicy, *, tokens: int, seed: int) -> None:
    """Put `tokens` embeddings before every row, drawn from those of the vocabulary; they alone are trainable.

    Raises ModelError M127 for a model that this is not exact for.
    """
    causal = _speaking(policy, "prompt")
    wrapper = wrap_prompt(
        causal, "PromptTuningConfig", seed=seed, num_virtual_tokens=tokens, prompt_tuning_init="SAMPLE_VOCAB"
    )
    _take(causal, PromptAdapter(wrapper, FIRST, _embedding(causal)), FIRST)


def add_prefix(policy: ModelPolicy, *, tokens: int, projection: int, seed: int) -> None:
    """Put `tokens` places with keys and values of their own before every row; they alone, or what makes them, are trainable.

    They begin as those of words drawn from the vocabulary; behind a `projection`, a network of that width, they begin at random.
    Raises ModelError M127 for a model that this is not exact for.
    """
    causal = _speaking(policy, "prefix")
    if not causal.exact.packs:
        raise _inexact("prefix", "its attention is its own")
    more = {"prefix_projection": True, "encoder_hidden_size": projection} if projection else {}
    begin = None if projection else _read(causal, tokens, seed)
    wrapper = wrap_prompt(causal, "PrefixTuningConfig", seed=seed, num_virtual_tokens=tokens, **more)
    if begin is not None:
        with torch.no_grad():
            wrapper.prompt_encoder[FIRST].embedding.weight.copy_(begin)
    _take(causal, _prefix(causal, wrapper, FIRST), FIRST)


def load_prompt(policy: ModelPolicy, folder: Path, *, name: str = FIRST) -> None:
    """Put the virtual places of `folder` before every row. Raises ModelError M121 where they do not fit, M127 as above."""
    there = next((one for one in policy.adapters.values() if isinstance(one, PromptAdapter | PrefixAdapter)), None)
    wrapper, inner = read_prompt(policy, folder, None if there is None else there.peft)
    kind = "prompt" if wrapper.peft_config[inner].peft_type.value == "PROMPT_TUNING" else "prefix"
    causal = _speaking(policy, kind)
    made = PromptAdapter(wrapper, inner, _embedding(causal)) if kind == "prompt" else _prefix(causal, wrapper, inner)
    wrapper.prompt_encoder[inner].requires_grad_(False)
    _take(causal, made, name)


def _speaking(policy: ModelPolicy, method: str) -> CausalPolicy:
    if not isinstance(policy, CausalPolicy) or policy.head is not None:
        raise _inexact(method, "it is no decoder that writes words")
    return policy


def _inexact(method: str, why: str) -> ModelError:
    what = f"method {method} is not exact for this model: {why}"
    return ModelError(Problem("M127", what, fix="method: lora"))


def _embedding(policy: CausalPolicy) -> VirtualEmbedding:
    """What stands in the place of the model's embedding; made where there is nothing yet."""
    there = policy.model.get_input_embeddings()
    if not isinstance(there, VirtualEmbedding):
        there = VirtualEmbedding(there)
        policy.model.set_input_embeddings(there)
    return there


def _prefix(policy: CausalPolicy, wrapper: Any, name: str) -> PrefixAdapter:
    if not hasattr(policy.model, PREFIX):
        policy.model.add_module(PREFIX, torch.nn.ModuleList())
    encoders: Any = getattr(policy.model, PREFIX)
    encoders.append(wrapper.prompt_encoder[name])
    return PrefixAdapter(wrapper, name)


def _take(policy: CausalPolicy, adapter: PromptAdapter | PrefixAdapter, name: str) -> None:
    """Use an adapter, in the type the base computes in, if it is exact."""
    adapter.peft.prompt_encoder[adapter.name].to(policy.device, policy.model.dtype)
    adapter.on()
    policy.adapters[name] = policy.adapter = adapter
    row = sample(min(policy.vocabulary, 256), (9,))[0]
    batch = collate([row]).to(policy.device)
    training = policy.model.training
    policy.eval()
    with torch.no_grad(), policy.attention("eager"):
        own = adapter.peft(input_ids=batch.ids).logits[0, -len(row) :][batch.at].float()
    with torch.no_grad():
        ours = policy.logits(batch)
    policy.model.train(training)
    error = float((ours - own).abs().max() / own.abs().max().clamp_min(1e-6))
    if not error <= TOLERANCE[policy.model.dtype]:
        raise _inexact(adapter.kind.partition("_")[0], f"logits differ by {error:.1e} of the largest from PEFT's own")


class _Heard:
    """In the place of given keys and values: writes down those computed."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def put(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Leaves both as they are."""
        self.layers[layer] = (key[0].transpose(0, 1), value[0].transpose(0, 1))
        return key, value


@torch.no_grad()
def _read(policy: CausalPolicy, tokens: int, seed: int) -> torch.Tensor:
    """[k, layers * 2 * K * D] keys and values of words that are drawn from the vocabulary, as the model makes them."""
    draw = np.random.default_rng(seed)
    ids = torch.from_numpy(draw.integers(0, policy.vocabulary, tokens))[None].to(policy.device)
    heard, training = _Heard(), policy.model.training
    policy.eval()
    policy.bounds.set((tokens,), policy.device)
    trunk: Callable[..., Any] = policy.model.base_model
    trunk(input_ids=ids, use_cache=False, row_bounds=policy.bounds, given=heard)
    policy.model.train(training)
    parts = [part for layer in sorted(heard.layers) for part in heard.layers[layer]]
    return torch.stack(parts, dim=1).flatten(1)
