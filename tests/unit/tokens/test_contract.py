"""Whole data sets through the contract: findings, over-long rows, raw text, what is stored."""

from itertools import pairwise

import numpy as np
import pytest
from unit.tokens.families import FAMILIES, load, write_model

from sartor.data.findings import Findings
from sartor.data.rows import Example, Message, Origin, Text
from sartor.errors import TokenError
from sartor.tokens.contract import supervise, windows
from sartor.tokens.render import Renderer
from sartor.tokens.template import PLAIN, ChatTemplate


def example(line, *turns, file="chat.jsonl"):
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(turns))
    return Example(origin=Origin(file, line), messages=messages)


class Run:
    """supervise() with its findings and events."""

    def __init__(self, folder, renderer, rows, *, max_tokens=64, too_long="error", indices=None):
        self.findings, self.events = Findings(), []
        self.folder = folder / "tokens"
        self.call = lambda: supervise(
            rows,
            range(len(rows)) if indices is None else indices,
            renderer,
            max_tokens=max_tokens,
            too_long=too_long,
            folder=self.folder,
            label="train",
            findings=self.findings,
            emit=self.events.append,
        )

    def problems(self):
        return {problem.code: problem for problem in self.findings.problems}

    def refused(self):
        with pytest.raises(TokenError) as caught:
            self.call()
        assert not (self.folder / "tokens.json").exists()
        return {problem.code: problem for problem in caught.value.problems}


@pytest.fixture
def chatml(model):
    made = model("bytes", "chatml")
    return Renderer(made.vocabulary, made.template)


LONG = "The quick brown fox jumps over the lazy dog. " * 12


def test_stores_rows_by_index_and_reports_progress(tmp_path, chatml):
    rows = [example(i + 1, f"question {i}", f"answer {i}") for i in range(600)]
    run = Run(tmp_path, chatml, rows, indices=np.array([5, 599, 0]))
    stored = run.call()
    assert stored.rows.tolist() == [5, 599, 0]
    assert stored[1].ids.tolist() == chatml.render(rows[599], 599)[0].ids.tolist()
    assert run.findings.problems == []
    run = Run(tmp_path, chatml, rows)
    assert len(run.call()) == 600
    assert [(event.done, event.total) for event in run.events] == [(256, 600), (512, 600), (600, 600)]


def test_all_faults_are_told_with_their_lines_and_nothing_is_stored(tmp_path, model):
    made = model("bytes", "gemma3")
    renderer = Renderer(made.vocabulary, made.template)
    rows = [
        example(1, "a", "b"),
        Example(origin=Origin("chat.jsonl", 2), messages=(Message("user", "a"), Message("assistant", "b", weight=0.0))),
        Example(origin=Origin("chat.jsonl", 3), messages=tuple(Message(r, "x") for r in ("user", "user", "assistant"))),
        Example(origin=Origin("chat.jsonl", 4), messages=tuple(Message(r, "x") for r in ("user", "user", "assistant"))),
    ]
    run = Run(tmp_path, renderer, rows)
    told = run.refused()
    assert set(told) == {"T201", "T217"}
    assert (told["T217"].line, told["T217"].rows) == (3, (4,))
    assert "must alternate" in told["T217"].what
    assert "(2 rows)" in told["T217"].what


def test_warnings_name_their_rows(tmp_path, model):
    made = model("bytes", "llama3")
    renderer = Renderer(made.vocabulary, made.template)
    rows = [example(1, "a", "b"), example(2, "x <|eot_id|> y", " b "), example(3, "<|eot_id|>", "c")]
    run = Run(tmp_path, renderer, rows, max_tokens=200)
    run.call()
    found = run.problems()
    assert set(found) == {"D140", "T216"}
    assert (found["D140"].level, found["D140"].line, found["D140"].rows) == ("warning", 2, (3,))
    assert '"<|eot_id|>"' in found["D140"].what
    assert (found["T216"].level, found["T216"].line) == ("warning", 2)


def test_expansion_unknown_characters_and_padding_are_noted(tmp_path, model):
    qwen = model("bytes", "qwen3")
    run = Run(tmp_path, Renderer(qwen.vocabulary, qwen.template), [example(1, "a", "b", "c", "d")])
    assert len(run.call()) == 2
    assert (run.problems()["T211"].level, run.problems()["T211"].line) == ("info", 1)
    small = model("unigram", "chatml")
    run = Run(tmp_path, Renderer(small.vocabulary, small.template), [example(1, "a", "日本")])
    run.call()
    assert run.problems()["T219"].level == "warning"


def test_pad_equal_to_end_is_noted_and_the_end_is_learnt(tmp_path, model):
    folder = write_model(tmp_path / "model", "bytes", FAMILIES["chatml"])
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", '{"pad_token": "<|im_end|>",', 1))
    made = load(folder, FAMILIES["chatml"])
    run = Run(tmp_path, Renderer(made.vocabulary, made.template), [example(1, "a", "b")])
    (row,) = run.call()
    assert row.weight[row.ids == made.vocabulary.eos_id][-1] == 1
    assert (run.problems()["T214"].level, str(made.vocabulary.pad_id) in run.problems()["T214"].what) == ("info", True)


def test_a_template_without_the_turn_marks_of_the_base_is_noted(tmp_path):
    folder = write_model(tmp_path / "model", "bytes", FAMILIES["chatml"])
    made = load(folder, FAMILIES["chatml"])
    rows = [example(1, "a", "b")]
    own = Run(tmp_path / "own", Renderer(made.vocabulary, made.template), rows)
    own.call()
    assert "T213" not in own.problems()
    plain = ChatTemplate(PLAIN, made.vocabulary.named, label="the plain template")
    other = Run(tmp_path / "other", Renderer(made.vocabulary, plain), rows)
    other.call()
    told = other.problems()["T213"]
    assert told.level == "warning"
    assert (
        told.what == 'the base was made for turns marked with "<|im_start|>", which the plain template does not write'
    )


def test_over_long_rows_are_errors_with_counts_and_mending(tmp_path, chatml):
    rows = [example(i + 1, "short", "answer") for i in range(200)]
    rows[7] = example(8, LONG, "answer")
    rows[8] = example(9, "short", LONG)
    rows[9] = example(10, "short", LONG)
    told = Run(tmp_path, chatml, rows, max_tokens=48).refused()
    assert set(told) == {"D130", "D131"}
    prompt = len(chatml.prompt([Message("user", LONG)]))
    assert told["D130"].line == 8
    assert f"the prompt has {prompt:,} tokens, max_tokens is 48" in told["D130"].what
    assert "1 of 200 rows (0.5%)" in told["D130"].what
    assert (told["D131"].line, told["D131"].rows) == (9, (10,))
    longest = len(chatml.render(rows[8], 8)[0])
    supervised = chatml.render(rows[8], 8)[0].supervised
    assert f"of {supervised:,} answer tokens" in told["D131"].what
    assert f"keeps 99 %, {longest} keeps all" in told["D131"].fix or f"{longest} keeps all" in told["D131"].fix
    assert "data.too_long: cut_prompt or drop" in told["D131"].fix
    kept = Run(tmp_path, chatml, rows, max_tokens=longest).call()
    assert len(kept) == 200


def test_dropped_rows_are_counted_and_named(tmp_path, chatml):
    rows = [example(1, "a", "b"), example(2, LONG, "b"), example(3, "a", LONG)]
    run = Run(tmp_path, chatml, rows, too_long="drop")
    assert run.call().rows.tolist() == [0]
    assert [(drop.origin.line, drop.rule) for drop in run.findings.dropped] == [(2, "too_long"), (3, "too_long")]
    warned = run.problems()["D130"]
    assert (warned.level, warned.line, warned.rows) == ("warning", 2, (3,))
    run = Run(tmp_path, chatml, rows[1:], too_long="drop")
    assert "no row of train is left" in run.refused()["T201"].what


def test_what_follows_the_answer_may_be_left_out(tmp_path, chatml):
    row = example(1, "short", "answer")
    (whole,) = chatml.render(row, 0)
    assert whole.weight[-1] == 0
    (kept,) = Run(tmp_path, chatml, [row], max_tokens=len(whole) - 1).call()
    assert kept.ids.tolist() == whole.ids[:-1].tolist()
    told = Run(tmp_path, chatml, [row], max_tokens=len(whole) - 2).refused()
    assert set(told) == {"D131"}


def learnt(renderer, stored):
    found = []
    for row in stored:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.weight != 0, [0]])))
        spans = zip(edges[::2], edges[1::2], strict=True)
        found += [renderer.decode([row.ids[a:b].tolist()])[0].removesuffix("<|im_end|>") for a, b in spans]
    return found


def test_cut_prompt_keeps_every_answer_whole(tmp_path, chatml):
    turns = [f"{who} {i} says something about topic {i}" for i in range(12) for who in ("user", "model")]
    system = Message("system", "Be brief.")
    long = example(1, *turns)
    long = Example(origin=long.origin, messages=(system, *long.messages))
    run = Run(tmp_path, chatml, [long, example(2, LONG * 3, "fine answer")], max_tokens=160, too_long="cut_prompt")
    stored = run.call()
    assert max(stored.lengths) <= 160
    assert sorted(learnt(chatml, stored)) == sorted([*turns[1::2], "fine answer"])
    texts = [chatml.vocabulary.decode(row.ids.tolist()) for row in stored]
    assert all("Be brief." in text for text in texts[:-1])
    assert len(texts) < 8
    assert texts[-1].rstrip().split("<|im_end|>")[0].endswith("jumps over the lazy dog. ")
    assert stored.lengths[-1] > 145
    warned = run.problems()["D132"]
    assert (warned.level, warned.line, warned.rows) == ("warning", 1, (2,))


def test_cut_prompt_never_cuts_an_answer(tmp_path, chatml):
    told = Run(tmp_path, chatml, [example(1, "a", LONG)], too_long="cut_prompt").refused()
    assert set(told) == {"D131"}
    assert "does not fit even with its prompt cut" in told["D131"].what
    assert "cut_prompt" not in told["D131"].fix


def test_cut_prompt_with_a_template_that_rewrites_turns(tmp_path, model):
    made = model("bytes", "qwen3")
    renderer = Renderer(made.vocabulary, made.template)
    turns = [f"{who} {i} says something about topic {i}" for i in range(8) for who in ("user", "model")]
    stored = Run(tmp_path, renderer, [example(1, *turns)], max_tokens=110, too_long="cut_prompt").call()
    assert max(stored.lengths) <= 110
    assert sorted(learnt(renderer, stored)) == sorted(turns[1::2])


@pytest.mark.parametrize("max_tokens", [2, 3, 7, 50, 10_000])
def test_raw_text_is_cut_into_windows_without_loss(tmp_path, model, max_tokens):
    made = model("bytes", "llama3")
    renderer = Renderer(made.vocabulary, made.template)
    rows = [Text(origin=Origin("a.txt", i + 1), text=text) for i, text in enumerate([LONG, "A short one.", ""])]
    stored = Run(tmp_path, renderer, rows, max_tokens=max_tokens).call()
    assert max(stored.lengths) <= max_tokens
    assert min(stored.lengths) >= 2
    for index, row in enumerate(rows):
        (whole,) = renderer.render(row, index)
        parts = [part.ids.tolist() for part in stored if part.row == index]
        assert [parts[0][0], *(token for part in parts for token in part[1:])] == whole.ids.tolist()
        assert all(one[-1] == two[0] for one, two in pairwise(parts))
    whole = [renderer.render(row, 0)[0] for row in rows]
    assert stored.supervised == sum(len(one) - 1 for one in whole)


def test_windows_of_a_single_token():
    from sartor.tokens.batch import Rendered

    one = Rendered(np.array([1], np.int32), np.ones(1, np.float32), 0)
    assert [len(part) for part in windows(one, 8)] == [1]


def test_template_faults_are_merged_over_rows(tmp_path, model):
    made = model("bytes", "chatml")
    source = "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    renderer = Renderer(made.vocabulary, ChatTemplate(source, made.vocabulary.named))
    turns = (Message("system", "S"), Message("user", "a"), Message("assistant", "b"))
    rows = [Example(origin=Origin("chat.jsonl", i + 1), messages=turns) for i in range(812)]
    told = Run(tmp_path, renderer, rows).refused()
    assert "(812 rows)" in told["T212"].what
    assert len(told["T212"].rows) == 811
