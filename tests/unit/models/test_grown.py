"""New tokens: rows that begin as the mean, move alone beside an adapter, and are read again by transformers and PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
import tiny
import torch

from sartor import registry
from sartor.errors import ModelError, TokenError
from sartor.flow.merge import merge
from sartor.flow.model import load as open_model
from sartor.flow.prepare import renderer_for
from sartor.methods import lora
from sartor.models.catalog import resolve
from sartor.models.grown import Rows, grow, train_rows
from sartor.models.load import load, policy_of
from sartor.models.save import save_model
from sartor.objectives import sft
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.growth import Growth
from sartor.tokens.vocabulary import Vocabulary

TOKENS = ("<tool>", "</tool>", "<£>")
KEYS = ("llama", "qwen3", "gemma3", "gpt2", "mistral", "t5", "bart", "bert")
"""llama, gemma3, gpt2, t5, bart and bert have one table for reading and writing, qwen3 and mistral two."""


def grown(name: str, count: int = 3) -> Any:
    from sartor.models.hf import random_model

    model = random_model(tiny.EVERY[name], seed=0)
    growth = Growth(TOKENS[:count], tiny.VOCABULARY)
    grow(model, growth)
    policy = policy_of(model)
    policy.growth = growth
    return policy


def rows(weight: float = 1.0) -> Any:
    """Rows with new tokens in the prompt and in the answer."""
    made = tiny.rows(5, seed=4)
    for number, row in enumerate(made):
        row.ids[1 + number % 2] = tiny.VOCABULARY + number % 3
        row.ids[-1] = tiny.VOCABULARY + (number + 1) % 3
    return collate(made)


@pytest.mark.parametrize("name", KEYS)
def test_rows_begin_as_the_mean_and_the_others_stay(name: str) -> None:
    before = tiny.policy(name).model
    model = grown(name).model
    for old, new in (
        (before.get_input_embeddings().weight, model.get_input_embeddings().weight),
        (before.get_output_embeddings().weight, model.get_output_embeddings().weight),
    ):
        assert torch.equal(new[: tiny.VOCABULARY], old)
        assert new.shape[0] == tiny.VOCABULARY + 3
        assert torch.allclose(new[tiny.VOCABULARY :], old.mean(dim=0).expand(3, -1), atol=1e-6)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (before.get_input_embeddings().weight is before.get_output_embeddings().weight)


def test_rows_that_were_padding_are_used() -> None:
    from sartor.models.hf import random_model

    model = random_model(tiny.CONFIGS["llama"], seed=0)
    grow(model, Growth(("<a>", "<b>"), 290))
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == tiny.VOCABULARY
    assert torch.allclose(weight[290:292], weight[:290].mean(dim=0).expand(2, -1), atol=1e-6)


@pytest.mark.parametrize("name", [key for key in KEYS if key != "bert"])
@pytest.mark.parametrize("shape", ["own", "whole"])
def test_their_gradient_is_that_of_the_whole_table(name: str, shape: str) -> None:
    """By trunk and head as by the model's own forward."""
    from dataclasses import replace

    policy, plain = grown(name), grown(name)
    if shape == "whole":
        policy.exact, plain.exact = replace(policy.exact, head=None), replace(plain.exact, head=None)
    train_rows(policy)
    plain.model.requires_grad_(True)
    batch = rows()
    losses = []
    for each in (policy, plain):
        loss = sft.loss(each, batch, sft.Options())
        loss.total.backward()
        losses.append(float(loss.total.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    moving = policy.trainable()
    parts = (plain.model.get_output_embeddings(), plain.model.get_input_embeddings())
    tables = {id(part.weight): part for part in parts}
    names = {id(part): key for key, part in plain.model.named_modules()}
    wanted = {f"new_tokens.{names[id(part)]}": part.weight.grad[tiny.VOCABULARY :] for part in tables.values()}
    assert moving.keys() == wanted.keys()
    for key, gradient in wanted.items():
        assert bool(gradient.any())
        assert torch.allclose(moving[key].grad, gradient, atol=1e-6, rtol=1e-4), key
    assert all(p.grad is None for p in policy.model.parameters())


def tuned(folder: Path, method: str = "lora", name: str = "llama", steps: int = 3) -> tuple[Any, Path]:
    """A model of a folder with new tokens, trained a little, and the folder it was saved in."""
    base = job.save_model(folder / "base", name)
    renderer = renderer_for(resolve(str(base), folder), add_tokens=TOKENS)
    vocabulary = renderer.vocabulary
    policy = load(resolve(str(base), folder), growth=vocabulary.growth)
    module = registry.component("method", method)
    module.attach(policy, module.Options(), seed=1)
    train_rows(policy)
    if policy.adapter is not None:
        with torch.no_grad():
            for key, parameter in policy.trainable().items():
                if "lora_B" in key:
                    parameter.normal_(std=0.02)
    updater = tiny.updater(policy, rate=1e-2)
    for _ in range(steps):
        loss = sft.loss(policy, texts(vocabulary), sft.Options())
        loss.total.backward()
        updater.weights.absorb()
        updater.apply(updater.norm(loss.weight.detach()), 1.0)
    policy.eval()
    facts = {"base": str(base), "base_path": str(base)}
    template = renderer.template.source
    save_model(
        policy,
        folder / "tuned",
        base=base,
        files=vocabulary.files,
        template=template,
        facts=facts,
        texts=vocabulary.texts,
    )
    return policy, folder / "tuned"


def texts(vocabulary: Vocabulary) -> Any:
    import numpy as np

    said = ["<tool>red lamps</tool>", "7 beds to Bern <£>", "<£><tool>"]
    ids = [np.array(vocabulary.encode(text, special=False), np.int32) for text in said]
    return collate([Rendered(each, np.ones(len(each), np.float32), row) for row, each in enumerate(ids)])


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "full", "partial"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_saved_and_read_again_by_all(method: str, name: str, tmp_path: Path) -> None:
    """By us, by plain transformers and PEFT, and merged: equal logits, and a tokenizer that knows the tokens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy, folder = tuned(tmp_path, method, name)
    if policy.rows is not None:
        assert any(bool((row != policy.rows._start[key]).any()) for key, row in policy.rows.parameters.items())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("<tool>red lamps</tool> to Bern <£>", return_tensors="pt").input_ids
    assert set(ids[0].tolist()) >= set(range(job.VOCABULARY, job.VOCABULARY + 3))
    with torch.no_grad():
        wanted = policy.model(input_ids=ids).logits
        again = open_model(folder)
        assert torch.allclose(again.policy.model(input_ids=ids).logits, wanted, atol=1e-5)
        assert again.renderer.vocabulary.growth == Growth(TOKENS, job.VOCABULARY)
        assert again.renderer.vocabulary.encode("<tool>", special=False) == [job.VOCABULARY]
        if method in ("full", "partial"):
            plain = AutoModelForCausalLM.from_pretrained(folder)
        else:
            plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
            plain.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            plain = PeftModel.from_pretrained(plain, str(folder))
        assert torch.allclose(plain.eval()(input_ids=ids).logits, wanted, atol=1e-4)
        if method in ("lora", "dora", "pissa"):
            merge([str(folder)], tmp_path / "merged", emit=lambda event: None)
            whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
            assert torch.allclose(whole(input_ids=ids).logits, wanted, atol=1e-4)
            ours = open_model(tmp_path / "merged")
            assert torch.allclose(ours.policy.model(input_ids=ids).logits, wanted, atol=1e-4)
            assert AutoTokenizer.from_pretrained(tmp_path / "merged")("<tool>").input_ids[-1] == job.VOCABULARY


def test_without_its_adapter_the_model_is_what_training_began_with(tmp_path: Path) -> None:
    policy, _ = tuned(tmp_path)
    base = load(resolve(str(tmp_path / "base"), tmp_path), growth=policy.growth)
    ids = torch.arange(job.VOCABULARY - 3, job.VOCABULARY + 3)[None]
    with torch.no_grad():
        tuned_logits = policy.model(input_ids=ids).logits
        with policy.reference():
            assert torch.equal(policy.model(input_ids=ids).logits, base.model(input_ids=ids).logits)
        assert torch.equal(policy.model(input_ids=ids).logits, tuned_logits)


def test_tokens_that_cannot_be_added_are_refused(tmp_path: Path) -> None:
    base = job.save_model(tmp_path / "base")
    for add in (("<|im_end|>",), ("<a>", "<a>")):
        with pytest.raises(TokenError, match="T235"):
            Vocabulary.load(base, add)


def test_a_tokenizer_that_lists_what_was_added_lists_these_too(tmp_path: Path) -> None:
    base = job.save_model(tmp_path / "base")
    config = json.loads((base / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {"0": {"content": "<|endoftext|>", "special": True}}
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    table = json.loads(Vocabulary.load(base, TOKENS).texts["tokenizer_config.json"])["added_tokens_decoder"]
    assert [table[str(job.VOCABULARY + place)]["content"] for place in range(3)] == list(TOKENS)


def test_an_adapter_with_its_own_tokens_stands_alone(tmp_path: Path) -> None:
    from sartor.models.load import open_adapter

    _, folder = tuned(tmp_path)
    plain = load(resolve(str(tmp_path / "base"), tmp_path))
    with pytest.raises(ModelError, match="M124"):
        open_adapter(plain, resolve(str(folder), tmp_path))


def test_the_hooks_add_nothing_to_any_number() -> None:
    policy, plain = grown("gemma3"), grown("gemma3")
    lora.attach(policy, lora.Options(), seed=1)
    train_rows(policy)
    assert isinstance(policy.rows, Rows)
    ids = torch.arange(tiny.VOCABULARY - 3, tiny.VOCABULARY + 3)[None]
    assert torch.equal(policy.model(input_ids=ids).logits, plain.model(input_ids=ids).logits)
