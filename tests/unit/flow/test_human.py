"""Ratings of a finished run: given, taken back, gone on with, sent out and taken in, and what its report then shows."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rated import answers, finished

from sartor.cli.main import run as command
from sartor.errors import DataError, InputError, RunError
from sartor.evaluate import sheets
from sartor.evaluate.asking import BAD, TIE, A, B, Plan, sides
from sartor.evaluate.asking import units as units_of
from sartor.flow import human
from sartor.flow.human import Desk, Wanted
from sartor.flow.rebuilt import rebuild
from sartor.store.run import Run

ROOT = Path("runs")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished(tmp_path / "run")


def desk(run: Path, *, guidelines: Path | None = None, **wanted: object) -> Desk:
    return human.begin(str(run), ROOT, Wanted(**wanted), guidelines)


def rate(at: Desk, rater: str, choose: Callable[[str], str], most: int = 1000) -> int:
    """Answer until nothing is left; how many answers were given. `choose` is told the text on the left."""
    count = 0
    with human.rating(at, rater) as session:
        while session.item is not None and count < most:
            view = session.view()
            session.label(session.item.key, choose(session.item.answers[view.shuffle[0]].text))
            count += 1
    return count


def splendid(left: str) -> str:
    return A if "splendid" in left else B


def codes(problems: InputError) -> list[str]:
    return [problem.code for problem in problems.problems]


def test_what_people_say_joins_the_report(run: Path) -> None:
    before = (run / "report.json").read_text()
    assert rate(desk(run), "ann", splendid) == 9
    found = human.conclude(desk(run))
    assert found.told["comparison"]["metrics"][0]["scores"]["tuned"]["value"] == 1.0
    page = (run / "report.html").read_text()
    assert 'id="human-pairwise-base"' in page
    assert "One person said which of two answers is better, 9 times in all" in page
    assert "3 of 12 rows have the same answer" in page
    assert "human_overall" in (run / "report.md").read_text()
    assert (run / "report.json").read_text() == before
    rate(desk(run, kind="likert"), "ann", lambda left: "good")
    human.conclude(desk(run, kind="likert"))
    page = (run / "report.html").read_text()
    assert page.index('id="human-likert-base"') < page.index('id="human-pairwise-base"')


def test_a_session_goes_on_where_it_stopped_and_every_answer_says_what_stood_where(run: Path) -> None:
    at = desk(run)
    assert rate(at, "ann", splendid, most=4) == 4
    with human.rating(at, "ann") as session:
        assert session.view().done == 4
        first = session.item.key
        session.label(first, TIE)
        session.undo()
        assert session.item.key == first
        session.label(first, BAD)
    marks = at.answers()["ann"]
    assert marks[first].label == BAD
    of = {unit.item.key: unit.item for unit in at.asked.units}
    assert all(mark.order == sides(of[key], "ann", at.asked.plan.seed) for key, mark in marks.items())
    assert rate(at, "ann", splendid) == 4
    assert human.conclude(at).raters == {"ann": 9}


def test_a_killed_session_is_told_when_the_report_is_written_anew(run: Path) -> None:
    at = desk(run)
    rate(at, "ann", splendid, most=3)
    assert not (run / "human" / "pairwise-base.json").exists()
    with (run / "human" / "pairwise-base" / "ratings" / "ann.jsonl").open("a") as log:
        log.write('{"number": 99, "time"')
    assert command(["runs", "report", str(run)]) == 0
    assert "3 times in all" in (run / "report.html").read_text()


def test_taking_every_answer_back_takes_the_section_out_again(run: Path) -> None:
    at = desk(run)
    rate(at, "ann", splendid, most=1)
    human.conclude(at)
    with human.rating(at, "ann") as session:
        session.undo()
    assert human.conclude(at).told is None
    assert "human-pairwise" not in (run / "report.html").read_text()


def test_questions_stay_and_rows_may_be_added(run: Path) -> None:
    assert desk(run, rows=4, questions=("tone",)).asked.plan.questions == ("tone",)
    assert desk(run, questions=("accuracy", "tone")).asked.plan.rows == 4
    rate(desk(run), "ann", splendid)
    assert desk(run).asked.plan.questions == ("accuracy", "tone")
    for wanted, said in (
        ({"questions": ("tone",)}, "other questions"),
        ({"rows": 3}, "other rows"),
        ({"reference": True}, "reference"),
    ):
        with pytest.raises(RunError, match=said) as fault:
            desk(run, **wanted)
        assert codes(fault.value) == ["E161"]
    assert len(desk(run, rows=12).asked.units) == 18
    assert human.conclude(desk(run)).plan.rows == 12


def test_the_recipe_says_what_is_usual(tmp_path: Path) -> None:
    usual = {"kind": "likert", "questions": ["tone"], "rows": 5, "against": "base", "reference": True}
    at = desk(finished(tmp_path / "run", human=usual))
    assert (at.asked.plan.kind, at.asked.plan.questions, at.asked.plan.rows) == ("likert", ("tone",), 5)
    assert at.asked.units[0].item.turns[-1].text.startswith("right ")
    assert desk(at.run.folder, kind="pairwise").asked.plan.questions == ("overall",)


@pytest.mark.parametrize("wanted", [{"questions": ("Tone!",)}, {"questions": ("tone", "tone")}])
def test_questions_have_names(run: Path, wanted: dict[str, object]) -> None:
    with pytest.raises(InputError) as fault:
        desk(run, **wanted)
    assert codes(fault.value) == ["E161"]


def test_what_cannot_be_rated_is_refused(tmp_path: Path, run: Path) -> None:
    with Run.into(tmp_path / "begun", "begun", "ab" * 32) as begun:
        begun.mark("running")
        with pytest.raises(RunError, match="running"):
            desk(begun.folder)
    with pytest.raises(RunError, match=r"no answers of few_shot.*--against base"):
        desk(run, against="few_shot")
    given = answers()
    with pytest.raises(RunError, match="same answer to all 12 rows"):
        desk(finished(tmp_path / "same", {"base": given["tuned"], "tuned": given["tuned"]}))
    silent = {model: [replace(one, prediction=None) for one in each] for model, each in given.items()}
    with pytest.raises(RunError, match="wrote no text"):
        desk(finished(tmp_path / "silent", silent))


def test_a_run_without_kept_facts_keeps_its_report(run: Path) -> None:
    (run / "report.json").unlink()
    rate(desk(run), "ann", splendid)
    assert human.conclude(desk(run)).report is None
    with pytest.raises(RunError, match="F107"):
        rebuild(str(run), ROOT)


def returned(at: Desk, rater: str, choose: Callable[[dict[str, str]], str], folder: Path) -> Path:
    """A CSV sheet, filled in as with a spreadsheet."""
    lines = list(csv.DictReader(io.StringIO(sheets.as_csv(at.asked, rater, at.sheet))))
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0].keys(), delimiter=";")
    writer.writeheader()
    writer.writerows({**line, "choice": choose(line)} for line in lines)
    path = folder / f"{rater}.csv"
    path.write_text("\ufeff" + text.getvalue(), encoding="utf-8")
    return path


def test_sheets_go_out_and_come_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["human", str(run), "--export", str(tmp_path / "s.csv"), "--raters", "ann,bob", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == 2
    assert "tuned" not in (tmp_path / "s-ann.csv").read_text() + (tmp_path / "s-bob.csv").read_text()
    at = desk(run)
    files = [
        returned(at, "ann", lambda line: "A" if "splendid" in line["A"] else "b", tmp_path),
        returned(at, "bob", lambda line: "" if line["prompt"].endswith(" 1?") else " Both  bad ", tmp_path),
    ]
    assert command(["human", str(run), *(part for file in files for part in ("--import", str(file))), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["raters"] == {"ann": 9, "bob": 8}
    assert found["told"]["comparison"]["metrics"][0]["scores"]["tuned"]["value"] == pytest.approx((8 * 0.75 + 1) / 9)
    assert command(["human", str(run), "--import", str(files[0])]) == 2
    assert "E164" in capsys.readouterr().err


def test_a_saved_sheet_is_read_with_its_times(run: Path, tmp_path: Path) -> None:
    at = desk(run)
    said = [{"id": unit.item.key, "choice": TIE, "time": 5.0, "seconds": 1.5} for unit in at.asked.units]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"sheet": at.sheet, "rater": "ann", "answers": said}))
    human.take_in(at, [file])
    assert {(mark.time, mark.seconds) for mark in at.answers()["ann"].values()} == {(5.0, 1.5)}


def test_what_is_wrong_with_sheets_is_told_all_at_once_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    at = desk(run)
    right = returned(at, "ann", lambda line: "tie", tmp_path).read_text(encoding="utf-8-sig")
    key = at.asked.units[0].item.key
    cases = {
        "unknown": (right.replace(key, "no-such-id"), "E162"),
        "twice": (right + next(line for line in right.splitlines() if key in line) + "\n", "E162"),
        "choice": (right.replace("tie", "perhaps", 1), "E165"),
        "other run": (right.replace(at.sheet, "f" * 16), "E163"),
        "two raters": (right.replace("ann", "bob", 1), "E163"),
        "column": (right.replace("choice", "verdict", 1), "E163"),
        "empty": ("", "E163"),
        "json": ('{"sheet": 1', "E163"),
        "name": (right.replace("ann", "../x"), "A105"),
    }
    files = []
    for name, (text, code) in cases.items():
        files.append(tmp_path / f"{name}.csv")
        files[-1].write_text(text, encoding="utf-8")
        with pytest.raises(DataError) as fault:
            human.take_in(at, [files[-1]])
        assert set(codes(fault.value)) == {code}, name
    good, again = tmp_path / "good.csv", tmp_path / "again.csv"
    good.write_text(right)
    again.write_text(right)
    with pytest.raises(DataError) as fault:
        human.take_in(at, [*files, good, again])
    assert sorted(set(codes(fault.value))) == ["A105", "E162", "E163", "E164", "E165"]
    assert at.answers() == {}


def test_a_sheet_of_fewer_rows_still_counts_after_rows_were_added(run: Path, tmp_path: Path) -> None:
    file = returned(desk(run, rows=6), "ann", lambda line: "tie", tmp_path)
    assert human.take_in(desk(run, rows=12), [file]).raters == {"ann": len(desk(run).asked.units) - 4}


def test_formulas_are_no_formulas_on_a_sheet() -> None:
    given = answers(4)
    given["tuned"] = [replace(one, prediction="=cmd()") for one in given["tuned"]]
    asked = units_of(Plan("pairwise", "base", ("overall",), 10, 0), given["base"], given["tuned"])
    cells = [cell for line in csv.reader(io.StringIO(sheets.as_csv(asked, "ann", "s"))) for cell in line]
    assert not [cell for cell in cells if cell.startswith("=")]
    assert "'=cmd()" in cells


def test_in_the_terminal_by_keyboard(run: Path) -> None:
    parts = [sys.executable, "-m", "sartor", "human", str(run), "--terminal", "--raters", "ann", "--json"]
    done = subprocess.run(parts, input="abtuxsq", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    labels = [mark.label for mark in desk(run).answers()["ann"].values()]
    assert labels == [A, B, BAD]
    assert json.loads(done.stdout)["raters"] == {"ann": 3}


def test_options_that_do_not_go_together_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["human", str(run), "--terminal", "--raters", "a,b"]) == 2
    assert command(["human", str(run), "--export", "sheet.pdf"]) == 2
    assert command(["human", str(run), "--export", "x.csv", "--raters", "../a"]) == 2
    assert "A105" in capsys.readouterr().err
