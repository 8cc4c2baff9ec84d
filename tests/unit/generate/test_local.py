"""Generated tokens against transformers' own generate, alone against together, and what ends a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from sartor.generate import attention, engine
from sartor.generate.local import LocalGenerator
from sartor.generate.probe import obstacle
from sartor.generate.rows import CONTEXT, Completion, Speech
from sartor.generate.sampling import Sampling
from sartor.generate.slots import Slots
from sartor.models.attention import NAME
from sartor.models.base import Exactness
from sartor.models.hf import random_causal
from sartor.models.policy import CausalPolicy
from sartor.protocols import TextGenerator

SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 61}
FAMILIES = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2, **SIZE},
    "qwen3": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 8, **SIZE},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61, "n_positions": 128},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 8, **SIZE},
    "gemma3": {
        "model_type": "gemma3_text",
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        **SIZE,
    },
    "gemma2": {"model_type": "gemma2", "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8, **SIZE},
}


def make(config: dict, seed: int = 3) -> CausalPolicy:
    model = random_causal(
        {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 128, **config}, seed=seed
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    model.eval()
    model.set_attn_implementation(NAME)
    return CausalPolicy(model, device=torch.device("cpu"), exact=Exactness())


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return make(FAMILIES["llama"])


def prompts(count: int = 9, longest: int = 23, seed: int = 0) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(3, 61, draw.integers(1, longest + 1)).tolist() for _ in range(count)]


def spell(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def generator(policy: CausalPolicy, stop: frozenset[int] = frozenset({2}), batch: int = 4) -> LocalGenerator:
    return LocalGenerator(policy, stop, 0, spell, batch)


def texts(policy: CausalPolicy, given: Sequence[Sequence[int]], batch: int = 4, stop=(2,), **options) -> list[str]:
    made = generator(policy, frozenset(stop), batch).generate(given, **{"max_new_tokens": 12, **options})
    by_index = {index: (text, stopped) for index, text, stopped in made}
    assert sorted(by_index) == list(range(len(given)))
    return [by_index[index] for index in range(len(given))]


def reference(policy: CausalPolicy, prompt: list[int], stop: list[int], count: int = 12) -> tuple[str, bool]:
    with policy.generating() as model:
        ids = model.generate(
            torch.tensor([prompt]),
            do_sample=False,
            max_new_tokens=count,
            eos_token_id=stop,
            pad_token_id=0,
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        )[0, len(prompt) :].tolist()
    stopped = ids[-1] in stop
    return spell(ids[:-1] if stopped else ids), stopped


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_gives_the_tokens_of_transformers_generate(family: str) -> None:
    policy = make(FAMILIES[family])
    assert obstacle(policy) is None
    given = prompts()
    stop = [2, 5, 9, 11, 17, 23, 31]
    wanted = [reference(policy, prompt, stop) for prompt in given]
    assert texts(policy, given, stop=stop) == wanted
    assert len({text for text, _ in wanted}) > 3
    assert {stopped for _, stopped in wanted} == {True, False}


def test_batches_of_any_size_give_the_same_text(policy: CausalPolicy) -> None:
    given = prompts(11)
    alone = texts(policy, given, batch=1)
    assert texts(policy, given, batch=3) == alone
    assert texts(policy, given, batch=64) == alone


def test_cache_budget_bounds_the_slots(policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    given = prompts(11)
    alone = texts(policy, given, batch=1)
    assert obstacle(policy) is None
    monkeypatch.setattr(engine, "CACHE_TOKENS", 100)
    seen: list[tuple[int, int]] = []

    class Watched(Slots):
        def __init__(self, count: int, places: int, *rest, **named) -> None:
            seen.append((count, places))
            super().__init__(count, places, *rest, **named)

    monkeypatch.setattr(engine, "Slots", Watched)
    assert texts(policy, given, batch=64) == alone
    assert all(count * places <= 100 for count, places in seen)
    assert max(count for count, _ in seen) > 1


def test_sampling_depends_on_seed_and_index_only(policy: CausalPolicy) -> None:
    given = prompts(11)
    alone = texts(policy, given, batch=1, temperature=1.0, seed=5)
    assert texts(policy, given, batch=64, temperature=1.0, seed=5) == alone
    assert texts(policy, given, batch=64, temperature=1.0, seed=6) != alone


def test_sampling_follows_the_distribution(policy: CausalPolicy) -> None:
    prompt = [7, 8, 9]
    with policy.generating() as model:
        wanted = (model(torch.tensor([prompt])).logits[0, -1] / 4).softmax(dim=0).numpy()
    made = texts(policy, [prompt] * 4000, batch=512, stop=(), max_new_tokens=1, temperature=4.0)
    counted = Counter(int(text) for text, _ in made)
    got = np.array([counted[token] / 4000 for token in range(61)])
    assert 0.5 * np.abs(got - wanted).sum() < 0.06


def test_a_row_ends_where_the_window_is_full(policy: CausalPolicy) -> None:
    (text, stopped), (none, ended) = texts(policy, [[5] * 125, [5] * 128], stop=(), max_new_tokens=50)
    assert len(text.split()) == 3
    assert (none, stopped, ended) == ("", False, False)


def test_listener_hears_every_token(policy: CausalPolicy) -> None:
    heard: list[tuple[int, str]] = []
    made = list(
        generator(policy, frozenset()).generate(
            [[4, 5]], max_new_tokens=5, listen=lambda index, text: heard.append((index, text))
        )
    )
    assert [len(text.split()) for _, text in heard] == [1, 2, 3, 4, 5]
    assert heard[-1][1] == made[0][1]


def test_model_is_left_as_it_was(policy: CausalPolicy) -> None:
    policy.train()
    for _ in generator(policy).generate(prompts(3), max_new_tokens=3):
        assert not torch.is_inference_mode_enabled()
        assert policy.model.training
        assert policy.model.config._attn_implementation == NAME
    policy.eval()


def test_empty_prompt_is_refused(policy: CausalPolicy) -> None:
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        list(generator(policy).generate([[3], []], max_new_tokens=2))


def test_it_is_a_text_generator(policy: CausalPolicy) -> None:
    made: TextGenerator = generator(policy)
    assert list(made.generate([], max_new_tokens=3)) == []


def test_samples_have_streams_of_their_own(policy: CausalPolicy) -> None:
    given = prompts(5)

    def completions(batch: int, samples: int) -> dict[tuple[int, int], Completion]:
        made = generator(policy, batch=batch).complete(
            given, max_new_tokens=12, sampling=Sampling(1.0, top_k=20, top_p=0.9), seed=5, samples=samples
        )
        return {(one.index, one.sample): one for one in made}

    together, few = completions(64, 6), completions(3, 6)
    assert sorted(together) == [(index, sample) for index in range(5) for sample in range(6)]
    assert few == together
    assert completions(2, 1) == {place: one for place, one in together.items() if place[1] == 0}
    assert len({one.ids for one in together.values()}) > 25


def test_generate_yields_every_sample(policy: CausalPolicy) -> None:
    made = list(generator(policy).generate(prompts(3), max_new_tokens=4, temperature=1.0, samples=2))
    assert Counter(index for index, _, _ in made) == {0: 2, 1: 2, 2: 2}


def test_every_prompt_may_have_its_own_limit(policy: CausalPolicy) -> None:
    limits = [3, 0, 7]
    made = {one.index: one for one in generator(policy, frozenset()).complete(prompts(3), max_new_tokens=limits)}
    assert [len(made[index].ids) for index in range(3)] == limits
    with pytest.raises(ValueError, match="shorter"):
        list(generator(policy).complete(prompts(3), max_new_tokens=[1, 2]))


def test_log_probabilities_are_those_of_the_policy(policy: CausalPolicy) -> None:
    given = prompts(4)
    made = generator(policy, stop=frozenset(range(2, 9))).complete(
        given, max_new_tokens=9, sampling=Sampling(0.7, top_k=9), logp=True
    )
    for one in made:
        ids = np.asarray([*given[one.index], *one.ids], dtype=np.int32)
        weight = np.concatenate([np.zeros(len(given[one.index])), np.ones(len(one.ids))]).astype(np.float32)
        with torch.no_grad(), policy.attention("eager"):
            logits = policy.model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
        wanted = logits.log_softmax(dim=1)[:-1].gather(1, torch.from_numpy(ids[1:].astype(np.int64))[:, None])[:, 0]
        assert one.logp is not None
        np.testing.assert_allclose(one.logp, wanted[weight[1:] > 0], atol=1e-4)
        assert one.stopped == (one.ids[-1] in range(2, 9))
        assert one.text == spell(one.ids[:-1] if one.stopped else one.ids)


def test_a_listener_costs_no_more_for_long_answers(policy: CausalPolicy) -> None:
    seen: list[int] = []

    def counting(ids: Sequence[int]) -> str:
        seen.append(len(ids))
        return spell(ids)

    heard: list[str] = []
    speaker = LocalGenerator(policy, frozenset(), 0, counting, 1)
    (made,) = speaker.complete([[4, 5]], max_new_tokens=100, listen=lambda index, text: heard.append(text))
    assert heard == [spell(made.ids[: count + 1]) for count in range(100)]
    assert max(seen[:-1]) <= 2 * CONTEXT
    with pytest.raises(ValueError, match="listener"):
        list(speaker.complete([[4]], max_new_tokens=1, samples=2, listen=lambda index, text: None))


def test_characters_of_several_tokens_are_spoken_whole() -> None:
    letters = list("naïve — größer ✓ 東京 ".encode() * 4)
    speech = Speech(lambda ids: bytes(ids).decode(errors="replace"))
    told = [speech.text(letters[: count + 1]) for count in range(len(letters))]
    assert told == [bytes(letters[: count + 1]).decode(errors="replace") for count in range(len(letters))]


@pytest.mark.parametrize("kind", ["gptj", "jamba"])
def test_models_with_another_cache_say_why_they_wait_for_each_other(kind: str) -> None:
    sizes = {
        "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
        "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "mamba_d_state": 4},
    }[kind]
    policy = make({"model_type": kind, "num_key_value_heads": 2, **SIZE, **sizes})
    given = [prompt + [3] * 20 for prompt in prompts(5, longest=6)]
    speaker = generator(policy, batch=1)
    alone = list(speaker.generate(given, max_new_tokens=5))
    assert speaker.obstacle
    assert sorted(index for index, _, _ in alone) == [0, 1, 2, 3, 4]


def test_a_model_that_the_slots_would_falsify_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make(FAMILIES["mistral"])
    exact = attention._attend
    monkeypatch.setattr(
        attention, "_attend", lambda q, k, v, mask, how: exact(q, k, v, mask, replace(how, scaling=0.1))
    )
    assert obstacle(policy) == "its own logits differ from those of slots"
