"""Encoder-decoders generate what transformers' generate does, alone or beside others, and what training scores."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from sartor.errors import ModelError
from sartor.generate.local import LocalGenerator
from sartor.generate.sampling import Sampling
from sartor.models.heads import HeadSpec
from sartor.tokens.batch import Rendered, collate

NAMES = list(tiny.ENCODER_DECODERS)
PROMPTS = [[*range(4, 4 + length), 1] for length in (9, 3, 17, 1, 6)]
STOP = 1


def made(name: str) -> object:
    """A model that ends some of its answers, and none at once."""
    policy = tiny.policy(name, seed=5, tie_word_embeddings=False)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(2)
    return policy


def generator(policy, batch: int = 3) -> LocalGenerator:
    return LocalGenerator(policy, frozenset({STOP}), 2, lambda ids: " ".join(map(str, ids)), batch)


def answers(policy, batch: int = 3, **options) -> dict[tuple[int, int], tuple[int, ...]]:
    found = generator(policy, batch).complete(PROMPTS, max_new_tokens=12, **options)
    return {(one.index, one.sample): one.ids for one in found}


@pytest.mark.parametrize("name", NAMES)
def test_greedy_is_transformers_generate(name: str) -> None:
    policy = made(name)
    found = answers(policy)
    for index, prompt in enumerate(PROMPTS):
        wanted = policy.model.generate(torch.tensor([prompt]), max_new_tokens=12, num_beams=1, do_sample=False)
        assert found[index, 0] == tuple(wanted[0, 1:].tolist())
    assert len(set(found.values())) > 1
    where = {token: {ids.index(token) if token in ids else 99 for ids in found.values()} for token in found[0, 0]}
    stop = max(where, key=lambda token: len(where[token]))
    ended = LocalGenerator(policy, frozenset({stop}), 2, str, 3).complete(PROMPTS, max_new_tokens=12)
    lengths = set()
    for one in ended:
        prompt = torch.tensor([PROMPTS[one.index]])
        wanted = policy.model.generate(prompt, max_new_tokens=12, num_beams=1, do_sample=False, eos_token_id=stop)
        assert one.ids == tuple(wanted[0, 1:].tolist())
        lengths.add(len(one.ids))
    assert len(lengths) > 1
    assert found == answers(policy, batch=1) == answers(policy, batch=32)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_for_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    policy = made(name)
    drawn = answers(policy, sampling=Sampling(temperature=1.0), seed=3, samples=2)
    assert drawn == answers(policy, batch=1, sampling=Sampling(temperature=1.0), seed=3, samples=2)
    assert drawn != answers(policy, sampling=Sampling(temperature=1.0), seed=4, samples=2)
    assert any(drawn[index, 0] != drawn[index, 1] for index in range(len(PROMPTS)))


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_those_that_training_scores(name: str) -> None:
    policy = made(name)
    found = generator(policy).complete(PROMPTS, max_new_tokens=6, sampling=Sampling(temperature=1.0), logp=True)
    for one in found:
        prompt = PROMPTS[one.index]
        weight = np.repeat(np.array([0, 1], np.float32), [len(prompt), len(one.ids)])
        row = Rendered(np.array([*prompt, *one.ids], np.int32), weight, 0)
        with torch.no_grad():
            scored = policy.logp(collate([row])).numpy()
        assert np.allclose(scored, one.logp, atol=1e-4)


def test_the_window_is_that_of_the_answer_alone() -> None:
    policy = tiny.policy("t5")
    prompt = [5] * 250
    (found,) = LocalGenerator(policy, frozenset(), 2, str, 1).complete([prompt], max_new_tokens=20)
    assert len(found.ids) == 20


@pytest.mark.parametrize("model", ["bert", "classes"])
def test_what_writes_nothing_is_refused(model: str) -> None:
    head = HeadSpec("classes", ("a", "b"))
    policy = tiny.policy("bert") if model == "bert" else tiny.headed("llama", head)
    with pytest.raises(ModelError, match="M145"):
        list(generator(policy).complete(PROMPTS, max_new_tokens=2))
