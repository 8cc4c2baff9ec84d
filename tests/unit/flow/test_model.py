"""A model opened from Python: the same prompts as everywhere, answers in order, log-probabilities that add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM

import sartor
from sartor.data.rows import Message
from sartor.errors import ModelError

CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokens are bytes."""
    path = tiny.save_folder(tmp_path_factory.mktemp("bytes"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(path / "tokenizer.json"))
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "chat_template": CHATML}
    (path / "tokenizer_config.json").write_text(json.dumps(named))
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> sartor.Model:
    return sartor.load(folder)


def test_chat_and_predict_agree_and_keep_the_order(model: sartor.Model) -> None:
    prompts = ["a", "a much longer prompt than the other one", [{"role": "user", "content": "b"}]]
    answers = model.predict(prompts, max_new_tokens=8)
    assert answers == [model.chat(prompt, max_new_tokens=8) for prompt in prompts]
    assert model.chat("a", max_new_tokens=8, temperature=1.0, seed=1) == model.chat(
        "a", max_new_tokens=8, temperature=1.0, seed=1
    )


def test_logprobs_are_those_of_transformers(model: sartor.Model, folder: Path) -> None:
    ours = model.logprobs("Hello", "Hi")
    prompt = model.renderer.prompt([Message("user", "Hello")]).tolist()
    answer = list(model.renderer.completion("Hi"))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = theirs(torch.tensor([prompt + answer])).logits[0].log_softmax(dim=-1)
    wanted = [float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]
    assert ours == pytest.approx(wanted, abs=1e-4)
    assert model.renderer.vocabulary.decode(answer).startswith("Hi<|im_end|>")


def test_embeddings_are_means_of_hidden_states(model: sartor.Model) -> None:
    vectors = model.embed(["one", "two", "one"])
    assert vectors.shape == (3, 32)
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="M100"):
        sartor.load("nowhere", root=tmp_path)
