"""General ability: the probability of the right answer, where wrong ones come from, and which questions are the verdict's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import job
import numpy as np
import pytest
import torch

from sartor import embedded
from sartor.errors import DataError
from sartor.evaluate import general
from sartor.evaluate.general import General, Options, share
from sartor.evaluate.suites import Ground, Subject
from sartor.flow.model import load
from sartor.protocols import Outcome


def built(root: Path, lines: list[dict[str, Any]], **options: Any) -> General:
    job.write_rows(root / "asked.jsonl", lines)
    suite = general.suite(Options(data="asked.jsonl", **options), Ground(root))
    assert isinstance(suite, General)
    return suite


def asked(count: int = 12) -> list[dict[str, Any]]:
    return [{"prompt": f"{n} + 1?", "completion": str(n + 1), "wrong": [str(n), str(n + 2)]} for n in range(count)]


def test_the_share_of_the_first_answer() -> None:
    assert share([math.log(0.2), math.log(0.1), math.log(0.1)]) == pytest.approx(0.5)
    assert share([-2000.0, -2000.0]) == pytest.approx(0.5)


def test_the_score_is_that_of_the_models_own_logits(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = job.save_model(tmp_path / "tiny")
    model = load(folder)
    suite = built(tmp_path, asked())
    subject = Subject("base", model.policy, model.renderer, (), 4, lambda event: None)
    found = list(suite.measure(subject, range(len(suite))))
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    plain.eval()
    shares, rights, bits, size = [], [], 0.0, 0
    for question in suite.questions:
        scores = []
        for answer in question.answers:
            turn = [{"role": "user", "content": question.row.prompt_text()}]
            before = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            start = tokenizer(before, add_special_tokens=False).input_ids
            ids = tokenizer(f"{before}{answer}<|im_end|>", add_special_tokens=False).input_ids
            with torch.no_grad():
                logp = plain(torch.tensor([ids])).logits[0].log_softmax(-1)
            scores.append(sum(logp[at - 1, ids[at]].item() for at in range(len(start), len(ids))))
        shares.append(math.exp(scores[0]) / sum(map(math.exp, scores)))
        rights.append(scores[0] == max(scores))
        bits += -scores[0] / math.log(2)
        size += len(question.answers[0].encode())
    score, accuracy, surprise = (float(each.combine(each.stats(found).sum(axis=0))) for each in suite.metrics)
    assert score == pytest.approx(np.mean(shares), abs=1e-4)
    assert accuracy == pytest.approx(np.mean(rights))
    assert surprise == pytest.approx(bits / size, rel=1e-4)


def test_the_verdict_and_training_ask_different_questions_whatever_their_order(tmp_path: Path) -> None:
    one, other = built(tmp_path, asked(30)), built(tmp_path, asked(30)[::-1])
    verdict, kept = [question.id for question in one.questions], [question.id for question in one.kept]
    assert (len(verdict), len(kept)) == (20, 10)
    assert not set(verdict) & set(kept)
    assert (verdict, kept) == ([question.id for question in other.questions], [question.id for question in other.kept])
    assert {question.id for question in built(tmp_path, asked(30), rows=15).kept} <= set(verdict) | set(kept)


def test_wrong_answers_come_from_other_rows_where_none_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1?", "completion": str(n + 1)} for n in range(30)]
    suite = built(tmp_path, rows)
    for question in (*suite.questions, *suite.kept):
        assert len(question.answers) == 4 == len(set(question.answers))
        assert set(question.answers) <= {row["completion"] for row in rows}
        assert question.answers[0] == question.row.answer_text()


def test_what_is_no_question_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="D181: general ability is asked with questions"):
        built(tmp_path, [{"text": f"a text that says {n}"} for n in range(20)])
    with pytest.raises(DataError, match="D181: 0 questions with different answers"):
        built(tmp_path, [{"prompt": f"{n}?", "completion": "yes"} for n in range(20)])
    with pytest.raises(DataError):
        built(tmp_path, [])


def test_kinds_are_told_with_intervals_and_chance() -> None:
    rows = [
        Outcome(
            str(place),
            "?",
            "a",
            label="a",
            label_scores={"a": math.log(p), "b": math.log(1 - p)},
            columns={"kind": kind},
        )
        for place, (kind, p) in enumerate([("facts", 0.9), ("facts", 0.7), ("numbers", 0.5), ("numbers", 0.5)])
    ]
    (table,) = general.METRIC.details(rows, 0.95)
    assert [row[:4] for row in table.rows] == [("facts", 2, 0.5, pytest.approx(0.8)), ("numbers", 2, 0.5, 0.5)]
    assert table.rows[0][4] < 0.8 < table.rows[0][5]  # type: ignore[operator]
    assert table.rows[1][4:] == (0.5, 0.5)
    assert general.METRIC.details(rows[:2], 0.95) == ()


def test_the_built_in_questions_are_read_with_their_wrong_answers() -> None:
    suite = general.suite(Options(), Ground(Path()))
    assert isinstance(suite, General)
    lines = [json.loads(line) for line in embedded.builtin("general-probe").read_text(encoding="utf-8").splitlines()]
    assert len(suite) + len(suite.kept) == len(lines)
    right = {line["prompt"]: (line["completion"], *line["wrong"]) for line in lines}
    assert all(question.answers == right[question.row.prompt_text()] for question in suite.questions)
    assert "chance is 0." in suite.why
