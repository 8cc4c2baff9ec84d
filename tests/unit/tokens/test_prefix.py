"""Shared beginnings are there once, and every row can be read back from its segments."""

from __future__ import annotations

import numpy as np
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.tokens.batch import Rendered, collate, collate_shared
from sartor.tokens.pack import pack_shared
from sartor.tokens.prefix import share

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=14)


def read(rows, segments, row):
    parts = [
        rows[segments.taken[one]][segments.first[one] : segments.first[one] + segments.lengths[one]]
        for one in segments.path(row)
    ]
    return np.concatenate(parts).tolist()


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(1, 5))
def test_every_row_is_the_path_to_its_segment(rows, least):
    segments = share([np.asarray(row) for row in rows], least)
    for index, row in enumerate(rows):
        assert read([np.asarray(row) for row in rows], segments, index) == row
    assert all(parent < segment for segment, parent in enumerate(segments.continues))
    assert all(length > 0 for length in segments.lengths)
    assert segments.tokens <= sum(map(len, rows))


@settings(max_examples=60, deadline=None)
@given(sequences)
def test_with_a_least_of_one_no_beginning_is_there_twice(rows):
    distinct = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert share([np.asarray(row) for row in rows], 1).tokens == len(distinct)


def test_only_stretches_that_pay_become_segments():
    trunk = list(range(10))
    rows = [[*trunk, 50, 51], [*trunk, 50, 60], [*trunk[:4], 70]]
    segments = share([np.asarray(row) for row in rows], 5)
    before = [0 if parent < 0 else segments.lengths[parent] for parent in segments.continues]
    assert sorted(zip(segments.lengths, before, strict=True)) == [(1, 11), (1, 11), (5, 0), (11, 0)]
    assert share([np.asarray(row) for row in rows], 4).tokens == 4 + 1 + 7 + 1 + 1
    assert share([np.asarray(row) for row in rows], 12).tokens == 29


def grouped(seed=0, groups=3, prompt=20, answers=(5, 9, 2)):
    """Rows in groups with the same prompt; loss on the answers."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(groups):
        start = draw.integers(3, tiny.VOCABULARY, prompt)
        for length in answers:
            ids = np.concatenate([start, draw.integers(3, tiny.VOCABULARY, length)]).astype(np.int32)
            weight = np.ones(len(ids), np.float32)
            weight[:prompt] = 0
            made.append(Rendered(ids, weight, len(made) + 100))
    return made


def test_a_shared_batch_holds_prompts_once():
    rows = grouped()
    batch, apart = collate_shared(rows), collate(rows)
    assert batch.tokens == 3 * (20 + 5 + 9 + 2) == apart.tokens - 3 * 2 * 20
    assert batch.continues.count(-1) == 3
    assert batch.rows == apart.rows
    for name in ("target", "weight", "row"):
        assert torch.equal(getattr(batch, name), getattr(apart, name)), name
    assert torch.equal(batch.ids[0, batch.at], apart.ids[0, apart.at])
    assert torch.equal(batch.position[0, batch.at], apart.position[0, apart.at])
    first = {int(batch.at[batch.row == row][0]) for row in range(3)}
    assert len(first) == 1, "the first token of each answer is predicted from the last place of the prompt"


def test_rows_without_a_common_beginning_stay_as_they_are():
    rows = tiny.rows(6)
    batch, apart = collate_shared(rows), collate(rows)
    assert set(batch.continues) == {-1}
    assert sorted(batch.lengths) == sorted(apart.lengths)
    assert torch.equal(batch.weight, apart.weight)


def test_shared_places_that_are_scored_count_for_every_row():
    rows = [
        Rendered(row.ids, np.full(len(row), 0.5 + index, np.float32), row.row) for index, row in enumerate(grouped())
    ]
    apart, batch, merged = collate(rows), collate_shared(rows), collate_shared(rows, merge=True)
    for row in range(len(rows)):
        assert torch.equal(batch.target[batch.row == row], apart.target[apart.row == row])
    assert len(merged.at) == len(batch.at) - 3 * 2 * 19
    assert float(merged.weight.sum()) == float(apart.weight.sum())
    pairs = list(zip(merged.at.tolist(), merged.target.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_equal_rows_are_one_segment():
    row = tiny.rows(1)[0]
    batch = collate_shared([row, row, row], least=1)
    assert batch.tokens == len(row)
    assert batch.row.tolist() == [n for n in range(3) for _ in range(row.supervised)]


@settings(max_examples=60, deadline=None)
@given(sequences, st.integers(1, 40), st.integers(1, 5))
def test_bins_hold_what_is_computed_and_families_stay_together(rows, capacity, least):
    rows = [np.asarray(row) for row in rows]
    bins = pack_shared(rows, capacity, least)
    assert sorted(index for members in bins for index in members) == list(range(len(rows)))
    for members in bins:
        assert share([rows[index] for index in members], least).tokens <= capacity or len(members) == 1
    if share(rows, least).tokens <= capacity:
        kin = [
            (a, b) for a in range(len(rows)) for b in range(a) if rows[a][:least].tolist() == rows[b][:least].tolist()
        ]
        home = {index: place for place, members in enumerate(bins) for index in members}
        assert all(home[a] == home[b] for a, b in kin if min(len(rows[a]), len(rows[b])) >= least)


def test_a_group_too_large_for_one_bin_is_divided():
    rows = [row.ids for row in grouped(groups=1, prompt=40, answers=(10,) * 12)]
    bins = pack_shared(rows, 100)
    assert 2 <= len(bins) <= 6
    assert all(40 + 10 * len(members) <= 100 for members in bins)
    assert len(pack_shared(rows, 40 + 12 * 26)) == 1
