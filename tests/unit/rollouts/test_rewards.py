"""Rewards: metrics, functions, reward models and judges, and what happens where one cannot tell."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import job
import numpy as np
import pytest
import tiny
import torch

from sartor import registry
from sartor.data.rows import Judged, Message, Origin
from sartor.errors import InputError, RecipeError
from sartor.evaluate.metrics import batched
from sartor.flow.prepare import renderer_for
from sartor.generate.replies import graded
from sartor.models.catalog import resolve
from sartor.models.heads import HeadSpec
from sartor.objectives._rounds import Reward
from sartor.options import NoOptions
from sartor.recipe.schema import Component
from sartor.rollouts.prompts import Answer, Asked
from sartor.rollouts.rewards import ByFunction, ByJudge, ByMetric, ByModel, Weighted
from sartor.tokens.batch import collate


def answer(text: str, reference: str | None = "4", stopped: bool = True, **columns: Any) -> Answer:
    asked = Asked(7, np.array([5, 6], np.int32), (Message("user", "2 + 2?"),), "2 + 2?", reference, columns)
    return Answer(asked, np.array([8, 1], np.int32), text, stopped)


def metric(name: str) -> ByMetric:
    return ByMetric(registry.component("metric", name).METRIC)


def test_a_metric_judges_each_answer_alone() -> None:
    answers = [answer("4"), answer("5"), answer(" 4\n")]
    assert metric("exact_match").score(answers).tolist() == [1, 0, 1]
    assert metric("stop_rate").score([answer("4", stopped=False)]).tolist() == [0]


def test_a_metric_that_is_better_when_lower_is_turned() -> None:
    """length: characters off over those of the reference: 0 for "4", 2 for "four" less one ..."""
    assert metric("length").score([answer("4"), answer("444")]).tolist() == [0, -2]


def test_a_metric_needs_a_right_answer_where_it_compares() -> None:
    with pytest.raises(InputError, match=r"N420.*exact_match compares with the right answer, and row 7 has none"):
        metric("exact_match").score([answer("4", reference=None)])
    assert metric("stop_rate").score([answer("4", reference=None)]).tolist() == [1]
    with pytest.raises(InputError, match=r"N420.*perplexity judges probabilities"):
        metric("perplexity")


def written(tmp_path: Path, body: str) -> Any:
    (tmp_path / "reward.py").write_text(body)
    return ByFunction("reward.py:score", batched("reward.py:score", tmp_path))


def test_a_function_sees_answers_and_rows(tmp_path: Path) -> None:
    made = written(
        tmp_path,
        "def score(answers, rows):\n"
        "    return [len(a) * r['level'] + (r['reference'] == a) + r['prompt'].count('?') for a, r in zip(answers, rows)]\n",
    )
    assert made.score([answer("4", level=2), answer("55", level=3)]).tolist() == [4, 7]


def test_a_function_may_say_that_it_cannot_tell(tmp_path: Path) -> None:
    found = written(tmp_path, "def score(answers, rows):\n    return [1, None]\n").score([answer("4"), answer("5")])
    assert found[0] == 1
    assert math.isnan(found[1])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("def score(answers, rows):\n    return [1]\n", "E102"),
        ("def score(answers, rows):\n    return 'ab'\n", "E102"),
        ("def score(answers, rows):\n    return [1, float('inf')]\n", "E102"),
        ("def score(answers, rows):\n    return [1 / 0, 1]\n", "E101"),
    ],
)
def test_a_function_that_fails_is_named(body: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=code):
        written(tmp_path, body).score([answer("4"), answer("5")])


def test_a_function_of_other_arguments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="R144"):
        written(tmp_path, "def score(answer):\n    return 1\n")


def test_a_sum_has_no_number_where_a_part_has_none(tmp_path: Path) -> None:
    part = written(tmp_path, "def score(answers, rows):\n    return [1, None]\n")
    found = Weighted([(part, 0.5), (metric("exact_match"), 2.0)]).score([answer("4"), answer("4")])
    assert found[0] == 2.5
    assert math.isnan(found[1])


@pytest.mark.parametrize("micro_tokens", [None, 40, 1000])
def test_a_reward_model_reads_the_last_token_of_the_answer(micro_tokens: int | None, tmp_path: Path) -> None:
    """As it was trained: the rendering of an answer that was judged, whose last token is the end of the answer's turn."""
    job.save_model(tmp_path / "model")
    renderer = renderer_for(resolve(str(tmp_path / "model"), tmp_path))
    policy = tiny.headed("llama", HeadSpec("reward"), vocab_size=job.VOCABULARY)
    policy.eval()
    made = ByModel("rm", policy, renderer, micro_tokens)
    with torch.no_grad():
        found = made.score([answer("four"), answer("a much longer answer, with many words"), answer("4")])
        for text, value in zip(("four", "a much longer answer, with many words", "4"), found, strict=True):
            row = Judged(
                origin=Origin("a", 1),
                prompt=(Message("user", "2 + 2?"),),
                completion=(Message("assistant", text),),
                liked=True,
            )
            (rendered,) = renderer.render(row, 0)
            assert int(rendered.ids[-1]) in renderer.stop_ids
            assert value == pytest.approx(float(policy.score(collate([rendered]))), abs=1e-5)


class Grader:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, *replies: Sequence[str]) -> None:
        self.replies, self.asked = list(replies), list[list[str]]()

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        self.asked.append(list(prompts))
        yield from reversed(list(enumerate(self.replies.pop(0))))


def test_a_judge_is_asked_again_and_what_it_cannot_grade_is_counted() -> None:
    grader = Grader(['{"score": 10}', "I would say 7", '{"score": 3}'], ["no"])
    judge = ByJudge("judge", grader, "Grade.", 10)
    found = judge.score([answer("a"), answer("b"), answer("c", reference=None)])
    assert found[0] == 1
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.3)
    assert judge.failures == 1
    assert [len(asked) for asked in grader.asked] == [3, 1]
    first, _, last = grader.asked[0]
    assert re.search(r"^Grade\..*2 \+ 2\?.*\na\n.*right answer.*\n4\n.*0 .*10", first, re.DOTALL)
    assert "right answer" not in last


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 7}', 7),
        ('```json\n{"score": 7.5, "why": "good"}\n```', 7.5),
        ('<think>{"score": 1}</think>{"score": 0}', 0),
        ('{"score": 2} no, {"score": 3}', None),
        ('{"score": 11}', None),
        ('{"score": -1}', None),
        ('{"score": true}', None),
        ('{"score": NaN}', None),
        ("7", None),
        ("{" * 5000, None),
        ("", None),
    ],
)
def test_only_one_readable_score_in_range_counts(reply: str, score: float | None) -> None:
    assert graded(reply, 10) == score


def test_a_reward_is_exactly_one_thing() -> None:
    assert Reward.model_validate("exact_match").metric == Component(name="exact_match", options=NoOptions())
    assert Reward.model_validate("reward.py:score").function == "reward.py:score"
    for wrong in ({}, {"metric": "bleu", "model": "a"}, {"function": "no"}):
        with pytest.raises(ValueError, match=r"."):
            Reward.model_validate(wrong)
    assert json.loads(Reward.model_validate("bleu").model_dump_json())["weight"] == 1
