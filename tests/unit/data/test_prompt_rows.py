"""Prompts without answers: what is read of them, what is refused, and that everything that walks over rows knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import job
import pytest

from sartor import registry
from sartor.data.cleaning import _emptied
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.formats._fields import BadRow
from sartor.data.making import learnt, with_prompts
from sartor.data.outcome import texts, with_texts
from sartor.data.pipeline import prepare
from sartor.data.profile import profile
from sartor.data.release import plain
from sartor.data.rows import Message, Origin, Prompt, Row
from sartor.data.stages import length, redact
from sartor.data.stages.boilerplate import _systems
from sartor.data.stages.conflicts import _claim
from sartor.data.stages.duplicates import _frame
from sartor.data.wording import answered, asked
from sartor.data.writing import as_ours
from sartor.recipe.schema import Data
from sartor.tokens.contract import supervise

AT = Origin("a.jsonl", 1)


def parse(**record: Any) -> Row:
    return registry.component("format", "prompt_only").parse(record, AT)


def test_a_prompt_is_a_text_or_messages() -> None:
    row = parse(prompt="Name a fruit.", system="Be brief.")
    assert isinstance(row, Prompt)
    assert row.messages == (Message("system", "Be brief."), Message("user", "Name a fruit."))
    assert (row.prompt_text(), row.answer_text()) == ("Be brief.\nName a fruit.", "")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": " "}, 'D121 "prompt" is empty'),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "D142 the last turn"),
        ({"prompt": [{"role": "user", "content": " "}]}, "D121 turn 1, of the user, is empty"),
        ({"prompt": "a", "completion": "b"}, 'D111 "completion" beside a prompt'),
    ],
)
def test_what_cannot_be_asked_is_named(record: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRow) as caught:
        parse(**record)
    assert f"{caught.value.code} {caught.value.what}".startswith(said)


def test_a_column_that_looks_like_an_answer_is_not_passed_over() -> None:
    detects = registry.component("format", "prompt_only").detects
    assert not detects({"prompt": "2 + 2?", "answer": "4"})
    assert isinstance(parse(prompt="2 + 2?", answer="4"), Prompt)


def test_everything_that_walks_over_rows_knows_prompts(tmp_path: Path) -> None:
    row = parse(prompt="Name a fruit.", system="Be brief.")
    assert texts(row) == ["Be brief.", "Name a fruit."]
    assert texts(row, "answer") == []
    assert with_texts(row, lambda text: text) is row
    changed = with_prompts(row, str.upper)
    assert isinstance(changed, Prompt)
    assert [turn.content for turn in changed.messages] == ["Be brief.", "NAME A FRUIT."]
    assert learnt(row) == []
    assert (asked(row), answered(row)) == ("Name a fruit.", "")
    assert _emptied(row, with_texts(row, lambda text: ""))
    assert _frame(row) != _frame(parse(prompt="Name a fruit."))
    assert _systems(row) == {"Be brief."}
    assert _claim(row) is None
    assert length._answers(row) == ()
    assert redact._everywhere(row, lambda text: text.replace("fruit", "***")).prompt_text().endswith("a ***.")
    assert parse(**as_ours(row)) == row
    assert plain(row)["prompt"][1]["content"] == "Name a fruit."
    dataset = Dataset.write([row], tmp_path)
    assert dataset.kinds == ("prompt",)
    assert dataset[0].content_hash() == row.content_hash()


def prepared(tmp_path: Path) -> Any:
    job.write_rows(tmp_path / "asked.jsonl", [{"prompt": row["prompt"]} for row in job.orders()])
    data = Data.model_validate({"sources": ["asked.jsonl"]})
    return prepare(data, root=tmp_path, folder=tmp_path / "data", emit=lambda event: None)


def test_no_check_misses_their_answers(tmp_path: Path) -> None:
    rows = prepared(tmp_path)
    assert [problem for problem in rows.findings.problems if problem.level != "info"] == []
    seen = profile(rows.dataset, rows.splits)
    assert set(seen.lengths) == {"prompt"}
    assert set(seen.languages) == {"prompt"}


def test_their_tokens_end_where_an_answer_begins(tmp_path: Path) -> None:
    from sartor.flow.prepare import renderer_for
    from sartor.models.catalog import resolve

    job.save_model(tmp_path / "model")
    renderer = renderer_for(resolve(str(tmp_path / "model"), tmp_path))
    rows = prepared(tmp_path)
    tokens = supervise(
        rows.dataset,
        range(4),
        renderer,
        max_tokens=64,
        too_long="error",
        folder=tmp_path / "tokens",
        label="train",
        findings=Findings(),
        emit=lambda event: None,
    )
    first = rows.dataset[0]
    assert tokens[0].ids.tolist() == renderer.prompt(first.messages).tolist()
    assert tokens[0].weight.nonzero()[0].tolist() == [len(tokens[0]) - 1]
