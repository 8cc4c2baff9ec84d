"""Rows that join and leave: which slots they take, what is computed for them, what is copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tiny
import torch

from sartor.generate import engine
from sartor.generate.engine import Engine, Share, share_out
from sartor.generate.rows import Row
from sartor.models.native.library import Missing, kernels
from sartor.models.policy import CausalPolicy


def sharpen(policy: CausalPolicy) -> CausalPolicy:
    """Weights so large that no two tokens are almost equally likely."""
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    return policy


@pytest.fixture(scope="module", params=tiny.CONFIGS)
def policy(request: pytest.FixtureRequest) -> CausalPolicy:
    return sharpen(tiny.policy(request.param))


@pytest.fixture(scope="module")
def llama() -> CausalPolicy:
    return sharpen(tiny.policy("llama"))


def rows_of(prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Row]:
    draw = np.random.default_rng(0)
    return [
        Row(index, 0, np.asarray(prompt), limit, draw)
        for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
    ]


def uneven(count: int, seed: int, shared: int = 0) -> tuple[list[list[int]], list[int]]:
    """Prompts, `shared` tokens of which are the same in all, and limits."""
    draw = np.random.default_rng(seed)
    common = draw.integers(3, tiny.VOCABULARY, shared).tolist()
    prompts = [common + draw.integers(3, tiny.VOCABULARY, draw.integers(1, 40)).tolist() for _ in range(count)]
    return prompts, draw.integers(1, 30, count).tolist()


class Watched(Engine):
    """Counts the tokens that go through the model."""

    def __init__(self, policy: CausalPolicy, stop: frozenset[int] = frozenset()) -> None:
        super().__init__(policy, stop, lambda logits, rows: logits.argmax(dim=1).tolist())
        self.passes: list[tuple[int, int]] = []

    def finish(self, rows: Sequence[Row], count: int, places: int = 128, trunk: int = 0) -> dict[int, list[int]]:
        model = self.policy.model

        def note(module, arguments, named):
            self.passes.append((named["input_ids"].shape[1], len(named["logits_to_keep"])))

        handle = model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            return {row.index: row.ids for bunch in self.run(Share(rows, count, places, trunk)) for row in bunch}
        finally:
            handle.remove()

    @property
    def tokens(self) -> int:
        return sum(tokens for tokens, _ in self.passes)


def reference(policy: CausalPolicy, prompt: list[int], limit: int, stop: list[int]) -> list[int]:
    with policy.generating() as model:
        ids = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=stop or None,
            pad_token_id=0,
        )
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize(("shared", "trunk"), [(0, 0), (21, 0), (21, 21), (5, 3)])
def test_tokens_are_those_of_transformers_generate(policy: CausalPolicy, shared: int, trunk: int) -> None:
    prompts, limits = uneven(14, seed=1, shared=shared)
    stop = list(range(3, 40))
    made = Watched(policy, frozenset(stop)).finish(rows_of(prompts, limits), count=4, trunk=trunk)
    wanted = [reference(policy, prompt, limit, stop) for prompt, limit in zip(prompts, limits, strict=True)]
    assert [made[index] for index in range(14)] == wanted
    assert len({len(ids) for ids in wanted}) > 5


def test_rows_join_while_others_go_on(llama: CausalPolicy) -> None:
    prompts, limits = uneven(12, seed=2)
    engine = Watched(llama)
    engine.finish(rows_of(prompts, limits), count=4)
    assert sum(rows for _, rows in engine.passes) == sum(limits)
    assert engine.tokens == sum(map(len, prompts)) + sum(limits) - len(prompts)
    busy = [rows for _, rows in engine.passes]
    assert busy[: -max(limits)] == [4] * len(busy[: -max(limits)])
    assert len(busy) < sum(sorted(limits)[-3:])


def test_a_common_beginning_is_computed_once(llama: CausalPolicy) -> None:
    prompts, limits = uneven(12, seed=3, shared=40)
    engine = Watched(llama)
    engine.finish(rows_of(prompts, limits), count=5)
    alone = sum(map(len, prompts)) + sum(limits) - len(prompts)
    assert engine.tokens == alone - 11 * 40


def test_what_all_prompts_begin_with_is_kept_once(llama: CausalPolicy) -> None:
    prompts, limits = uneven(12, seed=3, shared=engine.TRUNK + 6)
    (share,) = share_out(rows_of(prompts, limits), batch=5)
    assert share.trunk == engine.TRUNK + 6
    assert share.places < engine.TRUNK + 6 + 40
    watched = Watched(llama)
    made = watched.finish(share.rows, share.count, share.places, share.trunk)
    assert watched.tokens == sum(map(len, prompts)) + sum(limits) - len(prompts) - 11 * share.trunk
    assert made == Watched(llama).finish(rows_of(prompts, limits), count=1, places=256)
    (few,) = share_out(rows_of(*uneven(12, seed=3, shared=engine.TRUNK - 8)), batch=5)
    (one,) = share_out(rows_of(prompts[:1], limits[:1]), batch=5)
    assert few.trunk == one.trunk == 0


def test_samples_of_one_prompt_compute_it_once(llama: CausalPolicy) -> None:
    prompt = uneven(1, seed=4, shared=30)[0][0]
    engine = Watched(llama)
    made = engine.finish(rows_of([prompt] * 9, [7] * 9), count=4)
    assert engine.tokens == len(prompt) - 1 + 9 * 7
    assert len({tuple(ids) for ids in made.values()}) == 1


def test_a_slot_that_is_taken_in_the_same_pass_is_no_source(llama: CausalPolicy) -> None:
    draw = np.random.default_rng(8)
    one, other, third = (draw.integers(3, tiny.VOCABULARY, 30).tolist() for _ in range(3))
    prompts = [[*one, 7], [*other, 7], [*one, 8], [*third, 8]]
    made = Watched(llama).finish(rows_of(prompts, [1, 1, 5, 5]), count=2)
    assert made == Watched(llama).finish(rows_of(prompts, [1, 1, 5, 5]), count=1)


def test_joining_prompts_are_bounded(llama: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, limits = uneven(20, seed=5)
    whole = Watched(llama).finish(rows_of(prompts, limits), count=6)
    monkeypatch.setattr(engine, "JOINING_TOKENS", 50)
    bounded = Watched(llama)
    assert bounded.finish(rows_of(prompts, limits), count=6) == whole
    assert max(tokens for tokens, _ in bounded.passes) <= 50 + 6


def test_every_number_of_slots_gives_the_same(llama: CausalPolicy) -> None:
    prompts, limits = uneven(9, seed=6, shared=17)
    alone = Watched(llama).finish(rows_of(prompts, limits), count=1)
    for count in (2, 3, 9, 30):
        assert Watched(llama).finish(rows_of(prompts, limits), count=count) == alone


def test_slots_grow_with_what_is_free() -> None:
    prompts = [[1] * 8] * 40 + [[1] * 4000]
    shares = list(share_out(rows_of(prompts, [8] * 41), batch=16))
    assert [len(share.rows) for share in shares] == [1, 40]
    assert [share.count for share in shares] == [1, 16]
    assert all(share.count * share.places <= engine.CACHE_TOKENS for share in shares)
    (only,) = share_out(rows_of([[1] * 8, [1] * 400], [8, 8]), batch=16)
    assert (only.count, only.places) == (2, 416)


@pytest.mark.skipif(isinstance(kernels(), Missing), reason="no compiled kernels on this machine")
@pytest.mark.parametrize("trunk", [0, 17])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_kernel_and_plain_attention_give_the_same_tokens(name: str, trunk: int) -> None:
    policy = sharpen(tiny.policy(name, hidden_size=64))
    prompts, limits = uneven(9, seed=7, shared=17)
    plain = Watched(policy).finish(rows_of(prompts, limits), count=4, trunk=trunk)
    policy.native = True
    assert Watched(policy).finish(rows_of(prompts, limits), count=4, trunk=trunk) == plain
