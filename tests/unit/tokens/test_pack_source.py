"""Packing loses nothing; the order is a pure function of (seed, epoch, cursor)."""

from __future__ import annotations

import json

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sartor.tokens.pack import pack
from sartor.tokens.source import Seat, StepSize, TokenSource, boundaries, shares


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 60))
def test_every_row_is_packed_once_and_bins_hold(lengths, capacity):
    bins = pack(lengths, capacity)
    assert sorted(index for members in bins for index in members) == list(range(len(lengths)))
    for members in bins:
        assert sum(lengths[index] for index in members) <= capacity or len(members) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 90))
def test_best_fit_decreasing_keeps_its_bound(lengths, capacity):
    assert len(pack(lengths, capacity)) <= 11 / 9 * -(-sum(lengths) // capacity) * 1.5 + 4


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 80))
def test_token_steps_cover_all_rows_in_order(lengths, tokens):
    import numpy as np

    ends = boundaries(np.asarray(lengths), StepSize(tokens=tokens)).tolist()
    assert ends == sorted(set(ends))
    assert ends[-1] == len(lengths)
    for start, end in zip([0, *ends], ends, strict=False):
        assert sum(lengths[start:end]) <= tokens or end - start == 1


def source(**changes):
    settings = {"size": StepSize(examples=4), "micro_tokens": 40, "seed": 1, "epochs": 2.5, **changes}
    return TokenSource(tiny.Rows(tiny.rows(22)), **settings)


def rows_of(step):
    assert sorted(step.rows) == sorted(row for batch in step.batches for row in batch.rows)
    return sorted(step.rows)


def everything(over):
    taken = []
    while over.done < over.steps:
        taken.append(rows_of(over.take()))
    return taken


def test_each_epoch_sees_every_row_once():
    steps = everything(source(epochs=2))
    assert len(steps) == 12
    for epoch in (steps[:6], steps[6:]):
        assert sorted(row for step in epoch for row in step) == list(range(22))
    assert steps[:6] != steps[6:]


def test_fractional_epochs_and_fixed_steps():
    assert source(epochs=2.5).steps == 15
    assert source(steps=7).steps == 7
    finished = source(steps=1)
    finished.take()
    with pytest.raises(StopIteration):
        finished.take()


@pytest.mark.parametrize("at", range(1, 14))
def test_restored_anywhere_it_continues_the_same(at):
    unbroken = source()
    expected = everything(unbroken)
    first = source()
    for _ in range(at):
        first.take()
    state = json.loads(json.dumps(first.state()))
    second = source()
    second.restore(state)
    assert everything(second) == expected[at:]


def test_the_seed_matters_and_micro_batches_do_not():
    assert everything(source(seed=2)) != everything(source())
    assert everything(source(micro_tokens=None)) == everything(source())


@given(st.lists(st.integers(1, 50), min_size=0, max_size=40), st.integers(1, 5))
def test_rows_are_shared_out_whole_and_even(lengths, ranks):
    members = shares(lengths, ranks)
    assert sorted(index for each in members for index in each) == list(range(len(lengths)))
    tokens = [sum(lengths[index] for index in each) for each in members]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


@pytest.mark.parametrize("lockstep", [False, True])
def test_ranks_take_disjoint_rows_of_the_same_steps(lockstep):
    alone = source(size=StepSize(examples=3))
    ranks = [source(size=StepSize(examples=3), micro_tokens=20, seat=Seat(rank, 4, lockstep)) for rank in range(4)]
    while alone.done < alone.steps:
        whole, *parts = [each.take() for each in (alone, *ranks)]
        assert {(part.rows, part.tokens, part.supervised) for part in parts} == {
            (whole.rows, whole.tokens, whole.supervised)
        }
        scored = [batch for part in parts for batch in part.batches if len(batch.at)]
        assert sorted(row for batch in scored for row in batch.rows) == sorted(whole.rows)
        assert whole.tokens == sum(batch.tokens for batch in whole.batches)
        assert whole.supervised == sum(len(batch.at) for batch in whole.batches)
        if lockstep:
            assert len({len(part.batches) for part in parts}) == 1


def test_the_next_step_is_made_ahead_and_never_in_the_way():
    """What was made ahead is dropped when another step or another packing is wanted."""
    one, two = source(), source()
    for _ in range(3):
        one.take()
        two.take()
    one.again(15)
    two.micro_tokens = 15
    assert same_batches(one.take(), two.take())
    one.restore({"epoch": 0, "cursor": 1, "done": 1})
    two.restore({"epoch": 0, "cursor": 1, "done": 1})
    two._next = None
    assert same_batches(one.take(), two.take())


def same_batches(left, right):
    pairs = list(zip(left.batches, right.batches, strict=True))
    return left.rows == right.rows and all(one.ids.equal(two.ids) and one.rows == two.rows for one, two in pairs)


def test_no_rows_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        TokenSource(tiny.Rows([]), size=StepSize(examples=1), micro_tokens=8, seed=0)


def test_random_choices_are_new_in_every_epoch_and_the_same_after_a_resume() -> None:
    def source() -> TokenSource:
        return TokenSource(tiny.Rows(tiny.rows(6)), size=StepSize(examples=3), micro_tokens=30, seed=4, epochs=2.0)

    whole = source()
    seen = [{batch.draw for batch in whole.take().batches} for _ in range(4)]
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert all(len(each) == 1 for each in seen)
    resumed = source()
    resumed.restore({"epoch": 1, "cursor": 1, "done": 3})
    assert {batch.draw for batch in resumed.take().batches} == seen[3]
    assert {batch.draw for batch in resumed.again(5).batches} == seen[3]
