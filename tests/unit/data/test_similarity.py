"""Shingles, their likeness, and the search for pairs, against plain Python."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.similarity import Forest, Shingles, links, mixed


def plain(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return {(word,) for word in words} | set(itertools.pairwise(words))


def likeness(one: str, other: str) -> float:
    a, b = plain(one), plain(other)
    return len(a & b) / len(a | b)


@given(st.lists(st.text("ab c", min_size=1).filter(str.strip), min_size=2, max_size=8))
def test_jaccard_is_that_of_words_and_pairs_of_words(texts: list[str]) -> None:
    shingles = Shingles.of(texts)
    pairs = np.array(list(itertools.combinations(range(len(texts)), 2)))
    found = shingles.jaccard(pairs[:, 0], pairs[:, 1])
    assert found == pytest.approx([likeness(texts[a], texts[b]) for a, b in pairs])


def test_case_punctuation_and_character_forms_do_not_matter() -> None:
    shingles = Shingles.of(["The ﬁrst, “time”", "the FIRST time!", "time the first"])
    found = shingles.jaccard(np.array([0, 0]), np.array([1, 2]))
    assert found[0] == 1
    assert 0.5 < found[1] < 1, "the order of words matters"


def test_texts_without_words_are_compared_as_a_whole() -> None:
    shingles = Shingles.of(["?!", "?!", "...", "", ""])
    assert shingles.jaccard(np.array([0, 0, 3]), np.array([1, 2, 4])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_links_join_what_is_alike_and_nothing_else(threshold: float) -> None:
    source = random.Random(4)
    words = [f"w{n}" for n in range(400)]
    texts = [" ".join(source.choices(words, k=source.randint(3, 30))) for _ in range(150)]
    texts += [" ".join(dict.fromkeys([*text.split(), source.choice(words)])) for text in texts[:50]]
    shingles = Shingles.of(texts)
    near, close = links(shingles, np.arange(len(texts)), threshold)
    assert close.similarity.max(initial=0) < threshold
    assert near.similarity == pytest.approx(
        [likeness(texts[a], texts[b]) for a, b in zip(near.first, near.second, strict=True)]
    )
    forest, wanted = Forest(len(texts)), Forest(len(texts))
    forest.join(near.first, near.second)
    alike = [
        (a, b) for a, b in itertools.combinations(range(len(texts)), 2) if likeness(texts[a], texts[b]) >= threshold
    ]
    pairs = np.array(alike or np.zeros((0, 2)), np.int64)
    wanted.join(pairs[:, 0], pairs[:, 1])
    assert forest.roots().tolist() == wanted.roots().tolist()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19))))
def test_forest_is_union_find(pairs: list[tuple[int, int]]) -> None:
    groups = {n: {n} for n in range(20)}
    for a, b in pairs:
        merged = groups[a] | groups[b]
        groups.update(dict.fromkeys(merged, merged))
    forest = Forest(20)
    for a, b in pairs[: len(pairs) // 2]:
        forest.join(np.array([a]), np.array([b]))
    rest = np.array(pairs[len(pairs) // 2 :] or np.zeros((0, 2)), np.int64)
    forest.join(rest[:, 0], rest[:, 1])
    assert forest.roots().tolist() == [min(groups[n]) for n in range(20)]


def test_frame_is_what_most_rows_share() -> None:
    frame = "always the same words at the start"
    texts = [f"{frame} {' '.join(f'x{n}y{m}' for m in range(5))}" for n in range(10)]
    shingles = Shingles.of(texts)
    rows = np.arange(10)
    bare = shingles.without(rows, shingles.frame(rows))
    assert shingles.jaccard(np.array([0]), np.array([1]))[0] > 0.3
    assert bare.jaccard(np.array([0]), np.array([1]))[0] == 0
    assert (bare.sizes == 10).all(), "five words, four pairs, and the pair that crosses the frame's end"


def test_mixed_numbers_depend_on_value_and_seed() -> None:
    values = np.arange(1000, dtype=np.uint64)
    assert (mixed(values, 1) == mixed(values, 1)).all()
    assert not (mixed(values, 1) == mixed(values, 2)).any()
    assert len(np.unique(mixed(values, 1))) == 1000
