"""The commands label, rank, agreement and adjudicate, from the keyboard to the exported file and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sartor.cli.main import run
from sartor.data.formats import preference as preference_format
from sartor.data.rows import Origin
from sartor.flow.data_export import LABEL_STUDIO, OPENAI, PAIRS, RANKINGS, ROWS, export_labels, export_rankings
from sartor.flow.data_label import Settings, begin, labelling, suggested, take_in
from sartor.flow.data_rank import begin as begin_ranking
from sartor.flow.data_rank import ranking
from sartor.flow.suggest import FOLDER

WORDS = ("good", "bad")


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def in_process(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> dict:
    """A command that asks nothing."""
    capsys.readouterr()
    assert run([*map(str, args), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def sartor(*args: str | Path, keys: str) -> dict:
    """A command with keys pressed."""
    command = [sys.executable, "-m", "sartor", *map(str, args), "--json"]
    done = subprocess.run(command, input=keys, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def label_all(folder: Path, name: str, answers: list[str]) -> None:
    workspace = begin(None, folder, settings=Settings(), guidelines=None)
    with labelling(workspace, name, ordering="file", known={}, measure="entropy", skipped=False) as session:
        for answer in answers:
            session.label(session.item.key, answer)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Four rows with two annotators' labels, who differ on the last."""
    file = written(tmp_path / "rows.jsonl", [{"text": f"text {n}", "shop": n} for n in range(4)])
    begin(str(file), tmp_path / "out", settings=Settings(WORDS, overlap=1.0), guidelines=None)
    label_all(tmp_path / "out", "ann", ["good", "bad", "good", "good"])
    label_all(tmp_path / "out", "bob", ["good", "bad", "good", "bad"])
    return tmp_path / "out"


def test_agreement_and_adjudication_by_keyboard(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = in_process(capsys, "data", "agreement", labelled)
    values = {one["name"]: one["value"] for one in found["coefficients"]}
    assert values["percent"] == 0.75
    assert values["cohen_kappa"] == pytest.approx(0.5)
    assert found["confused"] == [{"labels": ["good", "bad"], "rows": 1}]
    (row,) = found["disagreed"]
    assert row["votes"] == {"ann": "good", "bob": "bad"}
    before = export_labels(labelled, tmp_path / "before.jsonl", form=ROWS, majority=False)
    assert (before.rows, before.unsettled, before.how) == (3, 1, {"agreed": 3})
    done = sartor("data", "adjudicate", labelled, "--annotator", "lead", keys="2")
    assert (done["done"], done["left"]) == (1, 0)
    export_labels(labelled, tmp_path / "after.jsonl", form=ROWS, majority=False)
    last = lines(tmp_path / "after.jsonl")[-1]
    assert (last["text"], last["label"], last["shop"]) == ("text 3", "bad", 3)
    assert last["annotation"]["how"] == "adjudicated"
    assert last["annotation"]["adjudications"]["lead"]["label"] == "bad"
    assert last["annotation"]["annotators"]["ann"]["label"] == "good"
    assert in_process(capsys, "data", "agreement", labelled)["coefficients"] == found["coefficients"]


def test_a_majority_needs_more_than_half(labelled: Path, tmp_path: Path) -> None:
    assert export_labels(labelled, tmp_path / "x.jsonl", form=ROWS, majority=True).rows == 3
    label_all(labelled, "cid", ["good", "bad", "good", "bad"])
    assert export_labels(labelled, tmp_path / "x.jsonl", form=ROWS, majority=True).how == {"agreed": 3, "majority": 1}


def test_label_studio_and_back(labelled: Path, tmp_path: Path) -> None:
    export_labels(labelled, tmp_path / "tasks.json", form=LABEL_STUDIO, majority=False)
    again = tmp_path / "again"
    taken = take_in(tmp_path / "tasks.json", again, kind="label", annotator="me", settings=Settings(WORDS))
    assert (taken.rows, taken.answers, taken.annotators) == (4, 8, ("ann", "bob"))
    export_labels(again, tmp_path / "more.json", form=LABEL_STUDIO, majority=False)
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("tasks.json", "more.json"))
    for tasks in (one, two):
        for task in tasks:
            task["data"].pop("source")
            for annotation in task["annotations"]:
                annotation["result"][0].pop("id")
    assert one == two
    assert take_in(tmp_path / "tasks.json", again, kind="label", annotator="me", settings=Settings()).answers == 0


def test_tasks_of_label_studio_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["Positive"]}}
    tasks = [
        {
            "id": 7,
            "data": {"text": "Fine."},
            "annotations": [{"completed_by": 3, "result": [choice], "lead_time": 2.5}],
        },
        {"id": 8, "data": {"text": "Not sure."}, "annotations": [{"was_cancelled": True, "result": [choice]}]},
    ]
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    done = in_process(
        capsys,
        "data",
        "label",
        "--import",
        tmp_path / "t.json",
        "--labels",
        "Positive,Negative",
        "--out",
        tmp_path / "o",
    )
    assert done["answers"] == 1
    standing = sartor("data", "label", "--out", tmp_path / "o", "--annotator", "3", keys="2")
    assert (standing["done"], standing["left"]) == (2, 0)
    tasks[0]["annotations"][0]["result"][0]["type"] = "rectanglelabels"
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    refused = in_process(capsys, "data", "label", "--import", tmp_path / "t.json", "--out", tmp_path / "p", code=2)
    assert refused["error"]["problems"][0]["code"] == "A111"
    assert not (tmp_path / "p").exists()


def test_chats_of_openai_and_back(labelled: Path, tmp_path: Path) -> None:
    export_labels(labelled, tmp_path / "chats.jsonl", form=OPENAI, majority=False)
    first = lines(tmp_path / "chats.jsonl")[0]
    assert first == {"messages": [{"role": "user", "content": "text 0"}, {"role": "assistant", "content": "good"}]}
    taken = take_in(tmp_path / "chats.jsonl", tmp_path / "o", kind="label", annotator="me", settings=Settings())
    assert (taken.rows, taken.answers) == (3, 3)
    export_labels(tmp_path / "o", tmp_path / "again.jsonl", form=OPENAI, majority=False)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "chats.jsonl").read_bytes()


ANSWERS = [{"text": "Pear.", "model": "new"}, {"text": "Leek.", "model": "old"}, {"text": "Apple.", "model": "new"}]


def rank_all(file: Path, folder: Path, name: str, rankings: list[list[list[str]]]) -> None:
    """Rank by the answers' texts, worst first."""
    workspace = begin_ranking(
        str(file), folder, models=(), samples=2, temperature=1.0, max_new_tokens=8, settings=Settings(overlap=1.0),
        guidelines=None, emit=lambda event: None,
    )  # fmt: skip
    with ranking(workspace, name, ordering="file", skipped=False) as session:
        for levels in rankings:
            places = {answer.text: place for place, answer in enumerate(session.item.answers)}
            session.rank(session.item.key, tuple(tuple(places[text] for text in level) for level in levels))


@pytest.fixture
def ranked(tmp_path: Path) -> Path:
    file = written(tmp_path / "answers.jsonl", [{"prompt": f"Fruit {n}?", "answers": ANSWERS} for n in range(3)])
    best_new, tie, best_old = (
        [["Leek."], ["Apple.", "Pear."]],
        [["Pear.", "Leek.", "Apple."]],
        [["Pear."], ["Apple."], ["Leek."]],
    )
    rank_all(file, tmp_path / "out", "ann", [best_new, tie, best_old])
    return tmp_path / "out"


def test_rankings_become_pairs_and_ties_none(ranked: Path, tmp_path: Path) -> None:
    done = export_rankings(ranked, tmp_path / "pairs.jsonl", form=PAIRS)
    found = [(row["prompt"], row["chosen"], row["rejected"]) for row in lines(tmp_path / "pairs.jsonl")]
    assert found == [
        ("Fruit 0?", "Pear.", "Leek."),
        ("Fruit 0?", "Apple.", "Leek."),
        ("Fruit 2?", "Leek.", "Pear."),
        ("Fruit 2?", "Apple.", "Pear."),
        ("Fruit 2?", "Leek.", "Apple."),
    ]
    for row in lines(tmp_path / "pairs.jsonl"):
        assert preference_format.detects(row)
        assert preference_format.parse(row, Origin("x", 1)).answer_text() == row["chosen"]
    (rate,) = done.wins
    assert (rate.model, rate.against, rate.wins, rate.ties, rate.losses, rate.prompts) == ("new", "old", 2, 2, 2, 3)
    assert rate.rate == 0.5
    assert rate.low < 0.5 < rate.high


def test_annotators_who_differ_cancel_out(ranked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rank_all(tmp_path / "answers.jsonl", ranked, "bob", [[["Apple.", "Pear."], ["Leek."]]] * 3)
    export_rankings(ranked, tmp_path / "p.jsonl", form=PAIRS)
    first = [row for row in lines(tmp_path / "p.jsonl") if row["prompt"] == "Fruit 0?"]
    assert first == []
    found = in_process(capsys, "data", "agreement", ranked)
    assert {one["rows"] for one in found["coefficients"]} == {9}
    assert "krippendorff_alpha_ordinal" in {one["name"] for one in found["coefficients"]}


def test_rankings_as_they_were_given(ranked: Path, tmp_path: Path) -> None:
    export_rankings(ranked, tmp_path / "r.jsonl", form=RANKINGS)
    assert [row["ranks"] for row in lines(tmp_path / "r.jsonl")] == [[1, 3, 1], [1, 1, 1], [3, 1, 2]]


def test_ranker_and_pairwise_of_label_studio_and_back(ranked: Path, tmp_path: Path) -> None:
    two = written(tmp_path / "two.jsonl", [{"prompt": f"p{n}", "answers": ["a", "b"]} for n in range(3)])
    rank_all(two, tmp_path / "two", "ann", [[["a"], ["b"]], [["b"], ["a"]], [["a", "b"]]])
    for folder in (ranked, tmp_path / "two"):
        file, again = tmp_path / f"{folder.name}.json", tmp_path / f"{folder.name}-again"
        export_rankings(folder, file, form=LABEL_STUDIO)
        assert take_in(file, again, kind="rank", annotator="me", settings=Settings()).answers == 3
        for form in (RANKINGS, PAIRS):
            export_rankings(folder, tmp_path / "1.jsonl", form=form)
            export_rankings(again, tmp_path / "2.jsonl", form=form)
            one, two_ = (
                [{k: v for k, v in row.items() if k not in ("annotation", "id")} for row in lines(tmp_path / n)]
                for n in ("1.jsonl", "2.jsonl")
            )
            assert one == two_
    kinds = [task["annotations"][0]["result"][0]["type"] for task in json.loads((tmp_path / "two.json").read_text())]
    assert kinds == ["pairwise", "pairwise", "choices"]


@pytest.mark.parametrize(
    "value", [["2", "0", "1"], {"rank": ["2", "0", "1"]}, {"rank-1": ["2"], "rank-2": ["0"], "rank-3": ["1"]}]
)
def test_every_form_of_a_ranker_is_read(tmp_path: Path, value: object) -> None:
    items = [{"id": str(n), "body": text} for n, text in enumerate(("x", "y", "z"))]
    result = {"from_name": "r", "to_name": "l", "type": "ranker", "value": {"ranker": value}}
    task = {
        "data": {"prompt": "p", "items": items},
        "annotations": [{"completed_by": {"email": "a@b.c"}, "result": [result]}],
    }
    (tmp_path / "t.json").write_text(json.dumps([task]))
    take_in(tmp_path / "t.json", tmp_path / "o", kind="rank", annotator="me", settings=Settings())
    export_rankings(tmp_path / "o", tmp_path / "r.jsonl", form=RANKINGS)
    (row,) = lines(tmp_path / "r.jsonl")
    assert row["ranks"] == [2, 3, 1]
    assert row["annotation"]["annotator"] == "a@b.c"


def test_preferences_of_openai_and_back(ranked: Path, tmp_path: Path) -> None:
    export_rankings(ranked, tmp_path / "p.jsonl", form=OPENAI)
    first = lines(tmp_path / "p.jsonl")[0]
    assert first["input"]["messages"] == [{"role": "user", "content": "Fruit 0?"}]
    assert first["preferred_output"] == [{"role": "assistant", "content": "Pear."}]
    taken = take_in(tmp_path / "p.jsonl", tmp_path / "o", kind="rank", annotator="me", settings=Settings())
    assert taken.answers == 5
    export_rankings(tmp_path / "o", tmp_path / "again.jsonl", form=OPENAI)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "p.jsonl").read_bytes()


def test_suggestions_are_the_models_and_asked_once(tmp_path: Path, byte_model: Path) -> None:
    import numpy as np

    from sartor.flow.model import load

    file = written(tmp_path / "rows.jsonl", [{"text": f"text {n}"} for n in range(3)])
    workspace = begin(str(file), tmp_path / "out", settings=Settings(WORDS), guidelines=None)
    heard: list = []
    known = suggested(workspace, str(byte_model), heard.append)
    model = load(byte_model)
    for item in workspace.items:
        scores = np.array([float(model.logprobs(item.text, word).sum()) for word in WORDS])
        share = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        assert list(known[item.key].values()) == pytest.approx(share.tolist(), abs=1e-3)
    (kept,) = (workspace.folder / FOLDER).iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    heard.clear()
    assert suggested(workspace, str(byte_model), heard.append) == known
    assert "1 rows" in heard[0].detail
    heard.clear()
    assert suggested(workspace, str(byte_model), heard.append) == known
    assert heard == []


def test_a_model_writes_the_answers_that_are_ranked(tmp_path: Path, byte_model: Path) -> None:
    file = written(tmp_path / "prompts.jsonl", [{"prompt": f"Say {n}"} for n in range(3)])

    def start() -> list:
        return list(
            begin_ranking(
                str(file), tmp_path / "out", models=(str(byte_model),), samples=3, temperature=1.0, max_new_tokens=6,
                settings=Settings(), guidelines=None, emit=lambda event: None,
            ).items
        )  # fmt: skip

    items = start()
    assert [item.text for item in items] == ["Say 0", "Say 1", "Say 2"]
    assert all(len({answer.text for answer in item.answers}) == len(item.answers) >= 2 for item in items)
    assert items == start()


def test_refusals_name_the_way_out(tmp_path: Path, labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = tmp_path / "none"
    cases = [
        (["data", "label", "--out", nothing], "A107"),
        (["data", "agreement", nothing], "A107"),
        (["data", "rank", "--out", labelled, "--export", tmp_path / "x"], "A107"),
        (["data", "label", tmp_path / "rows.jsonl", "--labels", "a", "--out", nothing], "A101"),
        (["data", "label", "--out", labelled, "--annotator", "../x"], "A105"),
        (
            ["data", "label", tmp_path / "rows.jsonl", "--labels", "a,b", "--out", nothing, "--annotator", "../x"],
            "A105",
        ),
        (["data", "label", "--out", labelled, "--overlap", "0.5"], "A103"),
        (
            ["data", "rank", tmp_path / "rows.jsonl", "--model", "sartor/nano", "--samples", "1", "--out", nothing],
            "A109",
        ),
    ]
    for args, code in cases:
        (problem,) = in_process(capsys, *args, code=2)["error"]["problems"]
        assert problem["code"] == code
        assert problem["fix"]
    assert not nothing.exists()
