from __future__ import annotations

import math

import pytest

from sartor.evaluate.bm25 import Index

TEXTS = ["the cat sat on the mat", "the dog ate the cat food", "a bird sang", "dogs and cats"]


def plain(texts: list[str], question: str) -> list[float]:
    """The formula of the docstring, word by word."""
    split = [text.split() for text in texts]
    mean = sum(map(len, split)) / len(split)
    found = []
    for own in split:
        score = 0.0
        for word in question.split():
            rows_with = sum(word in other for other in split)
            if not rows_with:
                continue
            idf = math.log(1 + (len(split) - rows_with + 0.5) / (rows_with + 0.5))
            often = own.count(word)
            score += idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(own) / mean))
        found.append(score)
    return found


@pytest.mark.parametrize("question", ["cat", "the cat", "the the cat food", "bird", "nothing of this"])
def test_scores_are_those_of_the_formula(question: str) -> None:
    assert Index(TEXTS).scores(question).tolist() == pytest.approx(plain(TEXTS, question), abs=1e-12)


def test_one_score_by_hand() -> None:
    """Mean length 4.5; "bird" is in one of four texts, which has three words: log(1 + 3.5 / 1.5) * 2.2 / (1 + 1.2 * 0.75)."""
    assert Index(TEXTS).scores("bird")[2] == pytest.approx(1.2039728 * 2.2 / 1.9, rel=1e-6)


def test_the_best_come_first_and_only_those_that_share_a_word() -> None:
    assert Index(TEXTS).best("Where is the CAT food?", 3) == [1, 0]
    assert Index(TEXTS).best("purple", 3) == []
    assert Index([]).best("cat", 2) == []
    assert Index(["cat", "cat", "dog"]).best("cat", 1) == [0]
