"""Which weights `partial` means, and what is said where it means none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny
import torch

from sartor.errors import ModelError
from sartor.methods import partial


def moving(name: str = "llama", **options: object) -> set[str]:
    policy = tiny.policy(name)
    partial.attach(policy, partial.Options.model_validate(options), seed=0)
    return set(policy.trainable())


def test_layers_count_from_the_last_or_are_named() -> None:
    last = moving(layers=1)
    assert last
    assert all(name.startswith("model.layers.1.") for name in last)
    assert all(name.startswith("model.layers.0.") for name in moving(layers=[0]))
    assert moving(layers=[0]) | last == moving(layers=2) == moving()


def test_parts_are_found_by_name_and_shape() -> None:
    norms = {name for name in tiny.weights(tiny.policy()) if "norm" in name}
    assert moving(parts=["norms"]) == norms
    assert moving(parts=["embeddings"]) == moving(parts=["head"]) == {"model.embed_tokens.weight"}, "the head is tied"
    assert moving("qwen3", parts=["head"]) == {"lm_head.weight"}
    assert moving("qwen3", parts=["embeddings"]) == {"model.embed_tokens.weight"}
    gpt2 = moving("gpt2", parts=["biases"])
    assert gpt2 == {name for name in tiny.weights(tiny.policy("gpt2")) if name.endswith(".bias")}
    assert moving("gpt2", parts=["embeddings"]) == {"transformer.wte.weight", "transformer.wpe.weight"}
    norms = {name for name in tiny.weights(tiny.policy("gpt2")) if ".ln_" in name}
    assert moving("gpt2", parts=["norms"]) == norms


def test_what_several_options_name_is_all_of_it() -> None:
    both = moving(layers=[0], parts=["norms"], patterns=["*.1.mlp.up_proj.weight"])
    assert both == moving(layers=[0]) | moving(parts=["norms"]) | {"model.layers.1.mlp.up_proj.weight"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"parts": ["norms", "biases"]}, "parts: biases.*parts norms, embeddings, head"),
        ({"layers": [1, 7]}, "layers: 7.*layers 0 to 1"),
        ({"layers": 3}, "layers: -1"),
        ({"patterns": ["*.q_proj.weight", "*.query.*"]}, r'"\*\.query\.\*".*self_attn\.q_proj\.weight'),
        ({"layers": 0}, "layers: 0"),
    ],
)
def test_a_choice_without_effect_is_refused_with_what_there_is(options: dict[str, object], told: str) -> None:
    with pytest.raises(ModelError, match="M180") as caught:
        moving(**options)
    assert re.search(told, str(caught.value)), str(caught.value)


def test_only_what_was_chosen_has_a_gradient_or_moves(tmp_path: Path) -> None:
    policy = tiny.policy()
    partial.attach(policy, partial.Options(parts=("norms",)), seed=0)
    before = tiny.weights(policy)
    tiny.train(policy, tiny.rows(12), tmp_path, epochs=1)
    moved = {name for name, tensor in tiny.weights(policy).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if "norm" in name}
