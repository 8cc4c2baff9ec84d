"""Queue, log and session: nothing is lost, nothing is asked twice, and order has its reasons."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sartor.data.annotate import order
from sartor.data.annotate.guidelines import blocks, labels
from sartor.data.annotate.items import to_label, to_rank
from sartor.data.annotate.keys import COMMANDS, Placing, found, keys
from sartor.data.annotate.log import Log, read
from sartor.data.annotate.marks import Mark, Sheet
from sartor.data.annotate.session import Refused, Session, shuffle
from sartor.data.annotate.workspace import MARKS, Job, Workspace
from sartor.errors import DataError
from sartor.flow.data_label import FILE, working

LABELS = ("good", "bad", "mixed")


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    file = written(tmp_path / "rows.jsonl", [{"text": f"text number {n}"} for n in range(6)])
    return Workspace.begin(tmp_path / "out", Job("label", LABELS), to_label(file, label="rows.jsonl"))


def at_work(workspace: Workspace, name: str, **options):
    return working(workspace, name, range(len(workspace.items)), FILE, options.pop("skipped", False), **options)


def shown(session: Session) -> str:
    assert session.item is not None
    return session.item.text.split()[-1]


def test_answers_are_on_the_disk_at_once_and_the_next_session_goes_on(workspace: Workspace) -> None:
    with at_work(workspace, "ann") as session:
        session.label(session.item.key, "good")
        session.note(session.item.key, "odd")
        session.flag(session.item.key)
        session.skip(session.item.key)
        log = read(workspace.folder / MARKS / "ann.jsonl")
        assert [mark.action for mark in log] == ["open", "label", "open", "note", "flag", "skip", "open"]
        assert shown(session) == "2"
    with at_work(workspace, "ann") as session:
        assert shown(session) == "2"
        view = session.view()
        assert (view.done, view.left, view.skipped) == (1, 4, 1)
        session.undo()
        assert shown(session) == "1"
        assert session.view().note == "odd"
        assert session.view().flagged
        session.undo()
        assert shown(session) == "0"
        with pytest.raises(Refused):
            session.undo()
        assert session.view().done == 0


def test_skipped_rows_come_again_when_asked_for(workspace: Workspace) -> None:
    with at_work(workspace, "ann") as session:
        session.skip(session.item.key)
    with at_work(workspace, "ann", skipped=True) as session:
        assert shown(session) == "0"
        session.skip(session.item.key)
        assert shown(session) == "1"


def test_a_second_window_cannot_answer_another_row(workspace: Workspace) -> None:
    with at_work(workspace, "ann") as session:
        first = session.item.key
        session.label(first, "good")
        with pytest.raises(Refused, match="another row"):
            session.label(first, "bad")
        with pytest.raises(Refused, match="none of the labels"):
            session.label(session.item.key, "nonesuch")
        assert session.sheet.answers[first].label == "good"


def test_two_annotators_share_the_rows(workspace: Workspace) -> None:
    with at_work(workspace, "ann") as ann, at_work(workspace, "bob") as bob:
        seen = [shown(ann), shown(bob)]
        while ann.item or bob.item:
            for session in (ann, bob):
                if session.item is not None:
                    session.label(session.item.key, "good")
                    seen += [shown(session)] if session.item else []
    assert sorted(seen) == [str(n) for n in range(6)]


def test_rows_of_the_overlap_are_for_everybody(tmp_path: Path) -> None:
    items = to_label(written(tmp_path / "r.jsonl", [{"text": f"t {n}"} for n in range(10)]), label="r")
    workspace = Workspace.begin(tmp_path / "out", Job("label", LABELS, overlap=0.4), items)
    counts = []
    for name in ("ann", "bob"):
        with at_work(workspace, name) as session:
            while session.item is not None:
                session.label(session.item.key, "good")
            counts.append(len(session.sheet.answers))
    assert counts == [10, 4]


def test_a_name_is_held_by_one_process_and_must_be_a_file_name(workspace: Workspace) -> None:
    with at_work(workspace, "ann"), pytest.raises(DataError, match="A104"), at_work(workspace, "ann"):
        pass
    for name in ("", "../x", "a/b", ".hidden", "x" * 65):
        with pytest.raises(DataError, match="A105"), at_work(workspace, name):
            pass


def test_a_torn_last_line_is_cut_and_a_damaged_one_is_named(workspace: Workspace) -> None:
    with at_work(workspace, "ann") as session:
        session.label(session.item.key, "good")
    path = workspace.folder / MARKS / "ann.jsonl"
    with path.open("ab") as file:
        file.write(b'{"number": 4, "ti')
    assert Sheet.of(read(path)).answers
    with at_work(workspace, "ann") as session:
        session.label(session.item.key, "bad")
    assert len(Sheet.of(read(path)).answers) == 2
    path.write_bytes(b'{"row": 3}\n' + path.read_bytes())
    with pytest.raises(DataError, match=r"ann.jsonl:1: error A106"), at_work(workspace, "ann"):
        pass


def test_a_failed_write_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "ann.jsonl")
    mark = Mark(number=1, time=0.0, annotator="ann", row="x", action="note", note="y" * 5000)
    code = (
        "import resource, sys; from pathlib import Path; from sartor.data.annotate.log import Log;"
        "from sartor.data.annotate.marks import Mark; import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "log = Log(Path(sys.argv[1])); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "log.append(Mark(number=1, time=0.0, annotator='a', row='x', action='note', note='y' * 5000))"
    )
    log.append(mark)
    log.close()
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "b.jsonl")], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert (tmp_path / "b.jsonl").read_bytes() == b""
    assert read(tmp_path / "ann.jsonl") == [mark]


def test_labels_and_rows_may_be_added_but_nothing_else_changes(workspace: Workspace, tmp_path: Path) -> None:
    folder, items = workspace.folder, list(workspace.items)
    more = to_label(written(tmp_path / "more.jsonl", [{"text": "new"}, {"text": "text number 3"}]), label="more")
    grown = Workspace.begin(folder, Job("label", (*LABELS, "other")), more)
    assert [item.text for item in grown.items] == [*(item.text for item in items), "new"]
    for job, code in (
        (Job("label", ("good", "bad")), "A102"),
        (Job("label", ("bad", "good", "mixed", "other")), "A102"),
        (Job("label", (*LABELS, "other"), overlap=0.5), "A103"),
        (Job("rank"), "A102"),
    ):
        with pytest.raises(DataError, match=code):
            Workspace.begin(folder, job, items)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="A107"):
        Workspace.begin(tmp_path / "full", Job("label", LABELS), items)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_row_is_known_by_its_content(tmp_path: Path) -> None:
    one = to_label(written(tmp_path / "a.jsonl", [{"text": "x"}, {"text": "y"}, {"text": "x"}]), label="a")
    two = to_label(written(tmp_path / "b.jsonl", [{"text": "y"}, {"text": "x"}]), label="b")
    assert [item.key for item in two] == [one[1].key, one[0].key]
    assert one[2].key == f"{one[0].key}-2"


def test_what_is_shown_of_each_form(tmp_path: Path) -> None:
    rows = [
        {"text": "mine", "label": "old"},
        {"prompt": "Why?", "completion": "Because."},
        {"messages": [{"role": "user", "content": "Hello"}]},
    ]
    texts = [item.text for row in rows for item in to_label(written(tmp_path / "r.jsonl", [row]), label="r")]
    assert texts == ["mine", "user: Why?\nassistant: Because.", "Hello"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x"},
        {"prompt": "x", "answers": ["one"]},
        {"prompt": "", "answers": ["a", "b"]},
        {"prompt": "x", "answers": ["a", 3]},
        {"prompt": "x", "answers": ["a"] * 10},
    ],
)
def test_a_bad_row_to_rank_is_named(tmp_path: Path, row: dict) -> None:
    file = written(tmp_path / "a.jsonl", [{"prompt": "ok", "answers": ["a", "b"]}, row])
    with pytest.raises(DataError, match=r"a\.jsonl:2: error A110"):
        to_rank(file, label="a.jsonl")


def test_farthest_first_meets_every_topic_before_it_repeats_one(tmp_path: Path) -> None:
    topics = ["the cat sat on the warm mat", "interest rates rose by a quarter", "boil the pasta in salted water"]
    rows = [{"text": f"{topic} {n}"} for topic in topics for n in range(30)]
    items = to_label(written(tmp_path / "r.jsonl", rows), label="r")
    places = order.diverse(items, seed=0)
    assert sorted(places) == list(range(90))
    assert {place // 30 for place in places[:3]} == {0, 1, 2}
    assert places == order.diverse(items, seed=0)


def test_minhash_estimates_jaccard() -> None:
    import numpy as np

    from sartor.data.similarity import Shingles

    texts = ["a b c d e f g h", "a b c d e f x y", "q r s t u v w x"]
    signatures = order.minhash(texts)
    exact = Shingles.of(texts).jaccard(np.array([0, 0]), np.array([1, 2]))
    for other, wanted in zip((1, 2), exact, strict=True):
        assert (signatures[0] == signatures[other]).mean() == pytest.approx(wanted, abs=0.2)


def test_the_model_is_asked_least_where_it_is_sure(workspace: Workspace) -> None:
    sure, unsure, even = {"good": 0.98, "bad": 0.01, "mixed": 0.01}, {"good": 0.5, "bad": 0.49, "mixed": 0.01}, {}
    even = {"good": 0.4, "bad": 0.3, "mixed": 0.3}
    known = {item.key: given for item, given in zip(workspace.items, (sure, unsure, even), strict=False)}
    assert order.uncertain(workspace.items, known, order.entropy)[:3] == [2, 1, 0]
    assert order.uncertain(workspace.items, known, order.margin)[:3] == [1, 2, 0]
    assert order.entropy([0.5, 0.5]) == pytest.approx(0.6931, abs=1e-4)


def test_a_suggestion_is_recorded_as_followed_or_not(workspace: Workspace) -> None:
    known = {item.key: {"good": 0.9, "bad": 0.1} for item in workspace.items[:2]}
    with at_work(workspace, "ann", probabilities=known) as session:
        for label in ("good", "bad", "bad"):
            session.label(session.item.key, label)
    answers = [mark for mark in read(workspace.folder / MARKS / "ann.jsonl") if mark.action == "label"]
    assert [(mark.suggestion, mark.followed) for mark in answers] == [("good", True), ("good", False), (None, None)]


def test_answers_are_shuffled_by_seed_for_each_annotator(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "answers": list("abcd")} for n in range(60)]
    items = to_rank(written(tmp_path / "r.jsonl", rows), label="r")
    firsts = [shuffle(item, "ann", 0)[0] for item in items]
    assert min(firsts.count(place) for place in range(4)) >= 5
    assert [shuffle(item, "ann", 0) for item in items] == [shuffle(item, "ann", 0) for item in items]
    assert any(shuffle(item, "ann", 0) != shuffle(item, "bob", 0) for item in items)


def test_placing_by_keys() -> None:
    placing = Placing(3)
    placing.tie()
    placing.put(1)
    placing.tie()
    placing.put(0)
    placing.put(1)
    placing.put(7)
    assert placing.levels == [[1, 0]]
    placing.back()
    assert placing.levels == [[1]]
    placing.put(2)
    placing.put(0)
    assert placing.complete
    assert placing.ranking((2, 0, 1)) == ((0,), (1,), (2,))


def test_keys_of_labels_leave_the_commands_alone() -> None:
    given = keys([f"label {n}" for n in range(77)])
    assert not given.keys() & COMMANDS.keys()
    assert list(given)[:10] == [*"123456789", "a"]
    assert found(["card", "card_arrival", "lost_card"], "CARD") == ["card"]
    assert found(["card_arrival", "lost_card"], "card") == ["card_arrival"]
    assert found(["a", "b"], "zz") == []


def test_guidelines_are_text_and_may_list_the_labels() -> None:
    text = "# Title\nSome *text*\nover lines\n\n## Labels\n- **refund**: wants\n  money\n* `card_lost`\n## Other\n- no\n```\na <b>\n```\n"
    assert labels(text) == ["refund", "card_lost"]
    assert [(block.kind, block.text) for block in blocks(text)][:3] == [
        ("heading", "Title"),
        ("paragraph", "Some *text* over lines"),
        ("heading", "Labels"),
    ]
    assert blocks(text)[-1].text == "a <b>"


def test_kill_9_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    file = written(tmp_path / "r.jsonl", [{"text": f"text {n}"} for n in range(500)])
    out = tmp_path / "out"
    args = [
        "data",
        "label",
        str(file),
        "--labels",
        "good,bad",
        "--annotator",
        "ann",
        "--out",
        str(out),
        "--order",
        "file",
    ]
    command = [sys.executable, "-m", "sartor", *args]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.stdin
    process.stdin.write(b"1212121212")
    process.stdin.flush()
    log = out / MARKS / "ann.jsonl"
    end = time.monotonic() + 30
    while not log.exists() or log.read_bytes().count(b'"label"') < 20:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run([*command, "--json"], input="22", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["done"] == 12
    rows = [mark.label for mark in read(log) if mark.action == "label"]
    assert rows == ["good", "bad"] * 5 + ["bad"] * 2
