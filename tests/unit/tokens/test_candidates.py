"""Answers to compare: rendered behind one prompt, proven like any answer, cut alike, and named where they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from unit.tokens.families import FAMILIES

from sartor.data.findings import Findings
from sartor.data.rows import Judged, Message, Origin, Preference, Ranking
from sartor.errors import TokenError
from sartor.tokens.contract import supervise
from sartor.tokens.render import Renderer, has_reasoning
from sartor.tokens.units import Units

AT = Origin("pref.jsonl", 3)


def said(*turns, first="user"):
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return tuple(Message(roles[place % 2], text) for place, text in enumerate(turns))


def pair(prompt, chosen, rejected, **more):
    return Preference(
        origin=AT, prompt=said(*prompt), chosen=said(chosen, first="a"), rejected=said(rejected, first="a"), **more
    )


@pytest.fixture
def chatml(model):
    made = model("bytes", "chatml")
    return Renderer(made.vocabulary, made.template)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_answer_stands_behind_the_same_prompt_and_is_learnt_alone(model, family):
    made = model("bytes", family)
    renderer = Renderer(made.vocabulary, made.template)
    row = pair(("Where is it?", "Paris.", "And now?"), "It is sunny.", "Who knows", margin=1.5)
    better, worse = renderer.render(row, 7)
    prompt = renderer.prompt(row.prompt).tolist()
    for rendered, answer in ((better, "It is sunny."), (worse, "Who knows")):
        assert rendered.row == 7
        assert rendered.ids[: len(prompt)].tolist() == prompt
        assert not rendered.weight[: len(prompt)].any()
        assert rendered.weight[len(prompt) :].all()
        assert rendered.weight[-1] == 1
        assert rendered.ids[len(prompt) :].tolist() == renderer.completion(answer)
        assert int(rendered.ids[-1]) in renderer.stop_ids
    assert (better.labels.tolist(), worse.labels.tolist()) == ([1.0, 1.5], [0.0, 1.5])


def test_labels_say_how_good_each_answer_is(chatml):
    answers = tuple(said(text, first="a") for text in ("one", "two", "three"))
    ranking = Ranking(origin=AT, prompt=said("Say."), answers=answers, scores=(-3.0, -1.0, -1.0))
    assert [rendered.labels.tolist() for rendered in chatml.render(ranking, 0)] == [[-3.0], [-1.0], [-1.0]]
    for liked in (True, False):
        judged = Judged(origin=AT, prompt=said("Say."), completion=said("one", first="a"), liked=liked)
        (rendered,) = chatml.render(judged, 0)
        assert rendered.labels.tolist() == [float(liked)]
    better, worse = chatml.render(pair(("Say.",), "one", "two"), 0)
    assert (better.labels.tolist(), worse.labels.tolist()) == ([1.0], [0.0])


def test_several_rows_at_once_keep_their_own_renderings(chatml):
    rows = [(0, pair(("a",), "b", "c")), (1, replace(pair(("d",), "e", "f"), margin=2.0))]
    found = [tokens.rendered for tokens in chatml.render_many(rows)]
    assert [[one.row for one in ones] for ones in found] == [[0, 0], [1, 1]]
    assert found[1][0].labels.tolist() == [1.0, 2.0]


def test_what_cannot_be_compared_is_named(chatml, model):
    def fault(renderer, row):
        with pytest.raises(TokenError) as caught:
            renderer.render(row, 0)
        (problem,) = caught.value.problems
        assert (problem.file, problem.line) == ("pref.jsonl", 3)
        return problem

    quiet = Message("assistant", "b", weight=0.0)
    problem = fault(chatml, replace(pair(("a",), "x", "c"), chosen=(quiet,)))
    assert problem.code == "T201"
    assert problem.what.startswith("chosen: ")
    assert fault(Renderer(chatml.vocabulary, chatml.template, loss_on="all"), pair(("a",), "b", "c")).code == "T201"
    stripping = next(name for name, family in FAMILIES.items() if family.strips)
    made = model("bytes", stripping)
    problem = fault(Renderer(made.vocabulary, made.template), pair(("a",), "b", "b "))
    assert problem.code == "T229"
    assert "chosen and rejected become the same tokens" in problem.what


def test_an_answer_of_several_turns_is_one_text_or_refused(chatml, model):
    chosen = said("b", "more?", "d", first="a")
    row = replace(pair(("a",), "x", "c"), chosen=chosen)
    better, _ = chatml.render(row, 0)
    learnt = chatml.decode([better.ids[better.weight > 0].tolist()])[0]
    assert learnt == "b<|im_end|>d<|im_end|>"
    last, _ = Renderer(chatml.vocabulary, chatml.template, loss_on="last_answer").render(row, 0)
    assert chatml.decode([last.ids[last.weight > 0].tolist()])[0] == "d<|im_end|>"


def test_reasoning_in_any_answer_counts():
    row = pair(("a",), "b", "<think>so</think>c")
    assert has_reasoning(row)
    assert not has_reasoning(pair(("a",), "b", "c"))


def stored(tmp_path, renderer, rows, *, max_tokens, too_long):
    findings = Findings()
    tokens = supervise(
        rows,
        range(len(rows)),
        renderer,
        max_tokens=max_tokens,
        too_long=too_long,
        folder=tmp_path / too_long,
        label="train",
        findings=findings,
        emit=lambda event: None,
    )
    return tokens, findings


def test_over_long_answers_go_together(tmp_path, chatml):
    long = "The quick brown fox jumps over the lazy dog. " * 12
    rows = [pair(("Hi",), "yes", "no"), pair((long, "Well.", long, "Hm.", "And?"), "yes", "no " + "x" * 20)]
    rows.append(pair(("Hi",), "yes", long + long))
    with pytest.raises(TokenError) as caught:
        stored(tmp_path, chatml, rows, max_tokens=100, too_long="error")
    assert {problem.code for problem in caught.value.problems} <= {"D130", "D131"}
    tokens, findings = stored(tmp_path, chatml, rows, max_tokens=100, too_long="drop")
    assert tokens.rows.tolist() == [0, 0]
    assert {problem.code for problem in findings.problems} == {"D130"}
    tokens, _ = stored(tmp_path, chatml, rows[:2], max_tokens=100, too_long="cut_prompt")
    assert tokens.rows.tolist() == [0, 0, 1, 1]
    first, second = tokens[2], tokens[3]
    assert max(len(first), len(second)) <= 100
    length = int(np.flatnonzero(first.weight)[0])
    assert int(np.flatnonzero(second.weight)[0]) == length
    assert first.ids[:length].tolist() == second.ids[:length].tolist()
    assert (first.labels.tolist(), second.labels.tolist()) == ([1.0], [0.0])
    assert len(Units(tokens, together=True)) == 2
    with pytest.raises(TokenError):
        stored(tmp_path, chatml, rows[2:], max_tokens=100, too_long="cut_prompt")
