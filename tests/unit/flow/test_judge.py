"""`sartor judge`: models and files of predictions before a judge that answers over HTTP, well or badly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judging
import numpy as np
import pytest
from judging import Server, serving

from sartor.cli.main import run
from sartor.errors import DataError, InputError, ModelError
from sartor.events import Noted
from sartor.flow.judge import Judged, judge, judging_options


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [
        {"id": f"r{place}", "prompt": f"What is {place} + {place}?", "completion": f"{2 * place} apples"}
        for place in range(12)
    ]
    return write(tmp_path / "test.jsonl", rows)


def answers(root: Path, name: str, right: int) -> str:
    """A file of predictions of which the first `right` are right."""
    rows = [
        {"id": f"r{place}", "prediction": f"{2 * place} apples" if place < right else "pears?"} for place in range(12)
    ]
    return write(root / f"{name}.jsonl", rows)


def call(models: Sequence[str], data: str, server: Server, events: list[Any] | None = None, **given: Any) -> Judged:
    told = {name: given.pop(name) for name in ("gold", "rows", "tries") if name in given}
    options = judging_options(model="fake", endpoint=server.url, price="1,2", **told)
    see = (lambda event: None) if events is None else events.append
    return judge(models, data, options, emit=see, **given)


def test_rubrics_of_several_files(data: str, tmp_path: Path) -> None:
    models = [answers(tmp_path, name, right) for name, right in (("a", 6), ("b", 12))]
    with serving(judging.fair) as server:
        found = call(models, data, server, rubrics=["accuracy"])
    (metric,) = found.metrics
    assert metric["scores"][models[0]]["value"] == pytest.approx(3)
    assert metric["scores"][models[1]]["value"] == pytest.approx(5)
    assert metric["differences"][models[1]]["word"] == "better"
    (asked, *_) = [one for one in found.details if one["title"] == "What the judge was asked"]
    name, count, told, *_, read, written, cost = asked["models"][models[0]]["rows"][0]
    assert (name, count, told, read, written) == ("accuracy", 12, 12, 1200, 120)
    assert cost == pytest.approx((1200 * 1 + 120 * 2) / 1e6)
    assert "unknown" in found.notes[0]


def test_pairs_give_ratings(data: str, tmp_path: Path) -> None:
    models = [answers(tmp_path, name, right) for name, right in (("a", 4), ("b", 12), ("c", 8))]
    with serving(judging.fair) as server:
        found = call(models, data, server, pairs=True)
    assert len(server.asked) == 2 * 8  # equal answers are a tie, and the same question is asked once
    rates = {(pair["model"], pair["against"]): pair["scores"]["win_rate"]["value"] for pair in found.pairs}
    assert rates == {
        (models[1], models[0]): pytest.approx((8 + 4 / 2) / 12),
        (models[2], models[0]): pytest.approx((4 + 8 / 2) / 12),
        (models[2], models[1]): pytest.approx((0 + 8 / 2) / 12),
    }
    assert [each.model for each in found.ratings] == [models[1], models[2], models[0]]
    assert np.mean([each.rating for each in found.ratings]) == pytest.approx(1000)
    assert all(each.low <= each.rating <= each.high and each.comparisons == 24 for each in found.ratings)
    json.dumps(found.json(), allow_nan=False)


def test_a_model_answers_itself(byte_model: Path, data: str, tmp_path: Path) -> None:
    with serving(judging.fair) as server:
        found = call(
            [str(byte_model), answers(tmp_path, "a", 12)], data, server, rubrics=["tone"], rows=3, max_new_tokens=4
        )
    assert found.rows == 3
    assert set(found.metrics[0]["scores"]) == set(found.models)


def test_busy_and_slow_servers_change_nothing(data: str, tmp_path: Path) -> None:
    model = answers(tmp_path, "a", 6)
    with serving(judging.fair) as server:
        server.trouble = [(429, 0.0), (200, 0.2), (429, 0.0)]
        found = call([model], data, server, rubrics=["accuracy"])
        assert len(server.asked) == 12
    assert found.metrics[0]["scores"][model]["value"] == pytest.approx(3)


def test_what_is_kept_is_not_asked_again(data: str, tmp_path: Path) -> None:
    model, keep = answers(tmp_path, "a", 6), tmp_path / "kept"
    with serving(judging.fair) as server:
        one = call([model], data, server, keep=keep)
        assert len(server.asked) == 36
        again = call([model], data, server, keep=keep)
        assert len(server.asked) == 36
        assert one.metrics == again.metrics
        server.trouble = [(401, 0.0)] * 99
        with pytest.raises(ModelError, match="M171"):
            call([answers(tmp_path, "b", 5)], data, server, keep=keep, rubrics=["accuracy"])
        assert len(server.asked) == 36


def test_garbage_is_told_and_never_scored(data: str, tmp_path: Path) -> None:
    events: list[Any] = []
    with serving(lambda text: "Great answer! 5/5") as server:
        found = call([answers(tmp_path, "a", 6)], data, server, events, rubrics=["accuracy"], tries=2)
        assert len(server.asked) == 24
    assert found.metrics == () or not found.metrics[0]["scores"]
    (note,) = [event for event in events if isinstance(event, Noted)]
    assert note.code == "E174"
    assert "12 of 12 questions" in note.message


def test_a_judge_that_prefers_the_first_is_warned_of(data: str, tmp_path: Path) -> None:
    events: list[Any] = []
    with serving(judging.first) as server:
        found = call([answers(tmp_path, "a", 0), answers(tmp_path, "b", 12)], data, server, events, pairs=True)
    assert found.pairs[0]["scores"]["win_rate"]["value"] == 0.5
    assert [event.code for event in events if isinstance(event, Noted)] == ["E175"]


def test_people_judge_too(data: str, tmp_path: Path) -> None:
    models = [answers(tmp_path, name, right) for name, right in (("a", 6), ("b", 12))]
    people = [{"id": f"r{place}", "winner": models[1] if place > 5 else "tie"} for place in range(12)]
    with serving(judging.fair) as server:
        found = call(models, data, server, pairs=True, gold=write(tmp_path / "people.jsonl", people))
    assert found.pairs[0]["scores"]["win_rate_calibrated"]["value"] == pytest.approx(0.75)
    assert any(one["title"].endswith("agreement with people") for one in found.details)
    assert "12 judgements" in found.notes[0]


def test_rows_without_a_prediction_are_left_out_and_told(data: str, tmp_path: Path) -> None:
    events: list[Any] = []
    few = write(tmp_path / "few.jsonl", [{"id": f"r{place}", "prediction": "x"} for place in (1, 4, 7)])
    with serving(judging.fair) as server:
        found = call([answers(tmp_path, "a", 12), few], data, server, events, rubrics=["accuracy"])
    assert (found.rows, found.of) == (3, 3)
    assert found.metrics[0]["scores"][few]["value"] == 1
    (note,) = [event for event in events if isinstance(event, Noted)]
    assert "9 of 12 rows have no prediction" in note.message


def test_what_cannot_be_judged_is_refused(byte_model: Path, data: str, tmp_path: Path) -> None:
    model = answers(tmp_path, "a", 6)
    with serving(judging.fair) as server:
        with pytest.raises(InputError, match="at least two models"):
            call([model], data, server, pairs=True)
        with pytest.raises(InputError, match="scores or comparisons"):
            call([model, model], data, server, pairs=True, rubrics=["tone"], gold="people.jsonl")
        people = write(tmp_path / "people.jsonl", [{"id": "r1", "winner": "tie"}])
        with pytest.raises(DataError, match="which of the 3 models"):
            call([model, model, model], data, server, pairs=True, gold=people)
        with pytest.raises(InputError, match="no rubric"):
            call([model], data, server, rubrics=["nice"])
        with pytest.raises(DataError, match="E120"):
            call([write(tmp_path / "few.jsonl", [{"id": "else", "prediction": "x"}])], data, server)
        with pytest.raises(DataError, match="E173"):
            call([model], write(tmp_path / "text.jsonl", [{"text": "once upon a time"}]), server)
        with pytest.raises(DataError, match="D114"):
            call([model], write(tmp_path / "twice.jsonl", [{"id": "r1", "prompt": "a?"}] * 2), server)
        assert server.asked == []
    with pytest.raises(InputError, match="no price"):
        judging_options(model="fake", price="cheap")
    with pytest.raises(InputError, match="endpoint"):
        judging_options(model="fake", price=None, endpoint="somewhere")


def test_on_the_command_line(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [answers(tmp_path, name, right) for name, right in (("a", 4), ("b", 12), ("c", 8))]
    with serving(judging.fair) as server:
        line = ["judge", *models, "--data", data, "--judge", "fake", "--endpoint", server.url]
        assert run([*line, "--pairwise", "--rubric", "accuracy"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert run([*line, "--rubric", "accuracy", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
    for words in ("judge_accuracy", "length controlled", "Elo", "the answer shown first is preferred", "is unknown"):
        assert words in printed
    assert told["models"] == models
    assert told["pairs"] == []
    assert run(["judge", models[0], "--data", data, "--judge", "fake", "--rubric", "nice"]) == 2
