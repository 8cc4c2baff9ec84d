"""Rankings: what is read of them, what is refused, and that everything that walks over rows knows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sartor import registry
from sartor.data.cleaning import _emptied
from sartor.data.dataset import Dataset
from sartor.data.formats._fields import BadRow
from sartor.data.making import learnt, with_prompts
from sartor.data.outcome import texts, with_texts
from sartor.data.release import plain
from sartor.data.rows import Message, Origin, Preference, Ranking, Row, row_from_json
from sartor.data.stages import length, redact
from sartor.data.stages.conflicts import _claim
from sartor.data.stages.duplicates import _frame
from sartor.data.wording import answered, asked
from sartor.data.writing import as_ours

AT = Origin("a.jsonl", 1)
RECORD: dict[str, Any] = {"prompt": "Name a fruit.", "answers": ["Leek.", "Pear.", "Plum."], "ranks": [3, 1, 1]}


def parse(name: str = "ranking", **record: Any) -> Any:
    return registry.component("format", name).parse(record, AT)


def refusal(name: str = "ranking", **record: Any) -> str:
    with pytest.raises(BadRow) as caught:
        parse(name, **record)
    return f"{caught.value.code} {caught.value.what}"


def test_ranks_become_scores_and_scores_stay() -> None:
    row = parse(**RECORD)
    assert row.scores == (-3.0, -1.0, -1.0)
    assert [turns[0].content for turns in row.answers] == ["Leek.", "Pear.", "Plum."]
    assert (row.prompt_text(), row.answer_text()) == ("Name a fruit.", "Pear.")
    assert parse(prompt="a", answers=["b", "c"], scores=[0.5, 2]).scores == (0.5, 2.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answers": ["Pear.", "Leek.", "Pear."]}, "D170 answers[0] and answers[2] are the same"),
        ({"ranks": [2, 2, 2]}, "D170 all answers are equally good"),
        ({"answers": ["Pear.", " ", "Leek."]}, "D120 empty answer in answers[1]"),
        ({"ranks": [1, 2]}, 'D111 "ranks" has 2 numbers for 3 answers'),
        ({"ranks": [1, True, 2]}, "D111 ranks[1] is true or false (a number needed)"),
        ({"ranks": None, "rank": [1, 2, 3]}, 'D111 neither "ranks" nor "scores" is there; is it the column "rank"?'),
        ({"answers": ["Pear."], "ranks": [1]}, 'D111 "answers" holds 1 (two or more needed)'),
        ({"answers": "Pear."}, 'D111 "answers" is text (a list needed)'),
        ({"prompt": " "}, 'D121 "prompt" is empty'),
    ],
)
def test_what_cannot_be_learnt_from_is_named(change: dict[str, Any], said: str) -> None:
    assert refusal(**RECORD | change) == said


def test_what_data_rank_exports_is_read_as_it_is(tmp_path: Path) -> None:
    from sartor.data.reading import recognise

    exported = {
        "id": "7",
        "prompt": "Name a fruit.",
        "answers": [{"text": "Leek.", "model": "a"}, "Pear."],
        "ranks": [2, 1],
        "annotation": {"annotator": "ann", "time": "2026-01-01T00:00:00+00:00", "source": "x.jsonl:1"},
    }
    path = tmp_path / "rankings.jsonl"
    path.write_text(json.dumps(exported) + "\n")
    found = recognise(path)
    assert found.format == "ranking"
    assert isinstance(found.sample, Ranking)
    assert found.sample.scores == (-2.0, -1.0)
    assert found.sample.columns["annotation"]["annotator"] == "ann"


def test_how_much_better_the_chosen_answer_is_is_kept() -> None:
    pair = {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek."}
    assert parse("preference", **pair).margin is None
    assert parse("preference", **pair, margin=2).margin == 2.0
    assert parse("preference", **pair, score_chosen=9, score_rejected=3.5).margin == 5.5
    assert parse("preference", **pair, margin=None, score_chosen=None, score_rejected=None).margin is None
    assert refusal("preference", **pair, margin=-1) == 'D111 "margin" is below 0'
    assert refusal("preference", **pair, score_chosen=1, score_rejected=2).startswith("D111")
    assert refusal("preference", **pair, score_chosen=1).startswith('D111 "score_rejected" is missing')
    assert as_ours(parse("preference", **pair, margin=2))["margin"] == 2.0


def test_everything_that_walks_over_rows_knows_rankings(tmp_path: Path) -> None:
    row = parse(**RECORD)
    assert texts(row) == ["Name a fruit.", "Leek.", "Pear.", "Plum."]
    assert texts(row, "answer") == ["Leek.", "Pear.", "Plum."]
    assert with_texts(row, lambda text: text) is row
    assert with_prompts(row, str.upper).prompt[0].content == "NAME A FRUIT."
    assert learnt(row) == ["Leek.", "Pear.", "Plum."]
    assert (asked(row), answered(row)) == ("Name a fruit.", "Leek.\nPear.\nPlum.")
    emptied = with_texts(row, lambda text: "" if text == "Plum." else text)
    assert _emptied(row, emptied)
    assert not _emptied(row, row)
    other = parse(**RECORD | {"ranks": [1, 2, 2]})
    assert _frame(row) != _frame(other)
    assert _claim(row)[0] == _claim(other)[0]  # type: ignore[index]
    assert _claim(row)[1] != _claim(other)[1]  # type: ignore[index]
    assert length._answers(row) == ("Leek.", "Pear.", "Plum.")
    called = {"type": "function", "function": {"name": "f", "arguments": {"to": "Leek"}}}
    calling = parse(
        prompt="a",
        answers=[[{"role": "assistant", "content": "", "tool_calls": [called]}], "Pear."],
        ranks=[1, 2],
    )
    assert "Leek" in redact._texts(calling)
    hidden = redact._everywhere(calling, lambda text: text.replace("Leek", "***"))
    assert isinstance(hidden, Ranking)
    assert hidden.answers[0][0].tool_calls[0]["function"]["arguments"] == {"to": "***"}
    dataset = Dataset.write([row, other], tmp_path)
    assert dataset.kinds == ("ranking",)
    assert dataset[0].content_hash() == row.content_hash() != other.content_hash()
    assert plain(row)["scores"] == [-3.0, -1.0, -1.0]


def test_a_row_written_before_margins_is_read_again() -> None:
    row = Preference(
        origin=AT,
        prompt=(Message("user", "a"),),
        chosen=(Message("assistant", "b"),),
        rejected=(Message("assistant", "c"),),
    )
    body = row.to_json()
    del body["margin"]
    again: Row = row_from_json(body)
    assert again == row
