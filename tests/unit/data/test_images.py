"""Images that rows name: where they are found, and every way in which they can be no good."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from sartor import registry
from sartor.cli.main import run
from sartor.data.findings import Findings
from sartor.data.images import opened
from sartor.data.making import with_prompts
from sartor.data.questions import Question, questions
from sartor.data.reading import read
from sartor.data.recognition import shape
from sartor.data.rows import Example, Message, Preference, Row, row_from_json
from sartor.data.sources._record import Record
from sartor.data.writing import as_ours, as_read
from sartor.errors import DataError
from sartor.flow.data_check import data_check

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def png(path: Path, size: tuple[int, int] = (12, 8), colour: str = "red", kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size, colour).save(path, kind)
    return path


def rows_of(folder: Path, *records: Any) -> tuple[list[Row], Findings]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    findings = Findings()
    return list(read(path, findings=findings)), findings


def turns(row: Row) -> tuple[Message, ...]:
    assert isinstance(row, Example)
    return row.messages


def test_every_form_names_the_same_image(tmp_path: Path) -> None:
    png(tmp_path / "a" / "one.png")
    said = {"role": "assistant", "content": "red"}
    ask = {"type": "text", "text": "Which colour?"}
    forms: list[Any] = [
        {"image": "a/one.png", "question": "Which colour?", "answer": "red"},
        {"images": ["a/one.png"], "question": "Which colour?", "answer": "red"},
        {"image": {"path": "a/one.png"}, "prompt": "Which colour?", "completion": "red"},
        {"image": "a/one.png", "instruction": "Which colour?", "output": "red"},
        {"messages": [{"role": "user", "content": [{"type": "image", "path": "a/one.png"}, ask]}, said]},
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "a/one.png"}, ask]}, said]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a/one.png"}}, ask]}, said]},
        {"messages": [{"role": "user", "content": [{"type": "image"}, ask]}, said], "images": ["a/one.png"]},
        {"messages": [{"role": "user", "content": "<image>\nWhich colour?"}, said], "images": ["a/one.png"]},
        {"conversations": [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": "red"}], "image": "a/one.png"},
        {"conversations": [{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "red"}], "images": ["a/one.png"]},
    ]  # fmt: skip
    found = []
    for form in forms:
        rows, findings = rows_of(tmp_path, form)
        assert not findings.problems, form
        found.append(turns(rows[0]))
    assert all(each == found[0] for each in found)
    (image,) = found[0][0].images
    assert (image.file, image.width, image.height) == (str(tmp_path / "a" / "one.png"), 12, 8)
    assert found[0][0].content == f"{image.mark}Which colour?"
    assert opened(image).getpixel((0, 0)) == (255, 0, 0)


def test_images_stand_before_or_behind_the_text(tmp_path: Path) -> None:
    one, two = png(tmp_path / "1.png"), png(tmp_path / "2.png", colour="blue")
    said = {"from": "gpt", "value": "blue"}
    record = {
        "images": [one.name, two.name],
        "conversations": [{"from": "human", "value": "<image> Same as? <image>"}, said],
    }
    rows, findings = rows_of(tmp_path, record)
    first, second = turns(rows[0])[0].images
    assert turns(rows[0])[0].content == f"{first.mark}Same as?{second.mark}"
    record["conversations"][0]["value"] = "<image> and <image> alike?"
    rows, findings = rows_of(tmp_path, record)
    assert [problem.code for problem in findings.errors] == ["D137"]


def test_other_images_make_other_rows_and_other_places_do_not(tmp_path: Path) -> None:
    for name, colour in (("here", "red"), ("there", "red"), ("other", "blue")):
        png(tmp_path / name / "1.png", colour=colour)
        (tmp_path / name / "rows.jsonl").write_text('{"image": "1.png", "question": "Which?", "answer": "x"}\n')
    here, there, other = (
        next(iter(read(tmp_path / name / "rows.jsonl", findings=Findings()))) for name in ("here", "there", "other")
    )
    assert here.content_hash() == there.content_hash() != other.content_hash()
    assert here.group == there.group != other.group
    assert here.prompt_text() != other.prompt_text()
    assert row_from_json(json.loads(json.dumps(here.to_json()))) == here


def promised(width: int, height: int) -> Callable[[Path], None]:
    """A small file whose header says how large it is."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(10))), chunk(b"IEND", b""))
    return lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts)) and None


def cut(kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        made = io.BytesIO()
        noise = Pillow.frombytes("RGB", (64, 64), bytes(index * 7919 % 251 for index in range(64 * 64 * 3)))
        noise.save(made, kind)
        path.write_bytes(made.getvalue()[: len(made.getvalue()) * 2 // 3])

    return write


BROKEN: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "missing": ("D133", lambda path: None),
    "a folder": ("D134", lambda path: path.mkdir()),
    "empty": ("D134", lambda path: path.write_bytes(b"")),
    "text": ("D134", lambda path: path.write_text("no image")),
    "half a png": ("D134", cut("PNG")),
    "half a jpeg": ("D134", cut("JPEG")),
    "half a gif": ("D134", cut("GIF")),
    "no pixels": ("D134", promised(0, 8)),
    "large": ("D135", promised(10_000, 10_000)),
    "a bomb": ("D135", promised(100_000, 100_000)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_an_error_of_its_row(name: str, tmp_path: Path) -> None:
    code, write = BROKEN[name]
    png(tmp_path / "good.png")
    write(tmp_path / "bad.png")
    rows, findings = rows_of(
        tmp_path,
        {"image": "good.png", "question": "Which colour?", "answer": "red"},
        {"image": "bad.png", "question": "Which colour?", "answer": "red"},
        {"image": "good.png", "question": "And this?", "answer": "red"},
    )
    assert len(rows) == 2
    (problem,) = findings.errors
    assert (problem.code, problem.line) == (code, 2)
    assert "bad.png" in problem.what
    assert problem.file == str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    "name", ["https://example.com/a.png", "http://example.com/a.png", "data:image/png;base64,AAAA", "s3://bucket/a.png"]
)
def test_nothing_is_fetched(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*given: Any, **more: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    _, findings = rows_of(tmp_path, {"image": name, "question": "Which colour?", "answer": "red"})
    assert [problem.code for problem in findings.errors] == ["D136"]


@pytest.mark.parametrize(
    ("code", "record"),
    [
        ("D137", {"images": ["1.png"], "conversations": [{"from": "human", "value": "<image><image>?"}, {"from": "gpt", "value": "x"}]}),
        ("D137", {"messages": [{"role": "user", "content": [{"type": "image", "path": "1.png"}, {"type": "text", "text": "<image>?"}]}, {"role": "assistant", "content": "x"}]}),
        ("D137", {"messages": [{"role": "user", "content": [{"type": "image", "path": "1.png"}]}, {"role": "assistant", "content": "x"}], "image": "1.png"}),
        ("D138", {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": [{"type": "image", "path": "1.png"}]}]}),
        ("D133", {"messages": [{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "x"}]}),
        ("D111", {"image": 7, "question": "?", "answer": "x"}),
        ("D144", {"messages": [{"role": "user", "content": [{"type": "audio", "path": "1.wav"}]}, {"role": "assistant", "content": "x"}]}),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(code: str, record: Any, tmp_path: Path) -> None:
    png(tmp_path / "1.png")
    rows, findings = rows_of(tmp_path, record)
    assert not rows
    assert [problem.code for problem in findings.errors] == [code]


def test_an_image_mark_in_a_text_without_images_is_text(tmp_path: Path) -> None:
    rows, findings = rows_of(tmp_path, {"question": "What does <image> mean in HTML?", "answer": "Nothing."})
    assert not findings.problems
    assert turns(rows[0])[0] == Message("user", "What does <image> mean in HTML?")


def test_pairs_show_images_in_their_prompt(tmp_path: Path) -> None:
    png(tmp_path / "1.png")
    rows, findings = rows_of(tmp_path, {"image": "1.png", "prompt": "Colour?", "chosen": "red", "rejected": "blue"})
    assert not findings.problems
    assert isinstance(rows[0], Preference)
    assert len(rows[0].prompt[0].images) == 1


def test_stages_and_augmentation_leave_images_where_they_are(tmp_path: Path) -> None:
    png(tmp_path / "1.png")
    rows, _ = rows_of(tmp_path, {"image": "1.png", "question": "<b>Which</b> colour &amp; form?", "answer": "red"})
    (image,) = turns(rows[0])[0].images
    cleaned = rows[0]
    for name in ("html", "markdown", "unicode", "whitespace"):
        stage = registry.component("stage", name)
        cleaned = stage.cleaner(stage.Options())(cleaned)
        assert isinstance(cleaned, Example)
    assert turns(cleaned)[0].content == f"{image.mark}Which colour & form?"
    assert turns(cleaned)[0].images == (image,)
    made = with_prompts(rows[0], str.upper)
    assert turns(made)[0].content == f"{image.mark}<B>WHICH</B> COLOUR &AMP; FORM?"


def test_changed_rows_are_written_with_their_images(tmp_path: Path) -> None:
    png(tmp_path / "1.png")
    record = {"image": "1.png", "question": "Which colour?", "answer": "red"}
    rows, _ = rows_of(tmp_path, record)
    made = with_prompts(rows[0], str.upper)
    form = shape("auto", {}, [Record(record, 1)], table=False)
    assert as_read(record, rows[0], made, form) == {**record, "question": "WHICH COLOUR?"}
    again, findings = rows_of(tmp_path, as_ours(made))
    assert not findings.problems
    assert turns(again[0]) == turns(made)


def test_questions_without_answers_show_them(tmp_path: Path) -> None:
    png(tmp_path / "1.png")
    path = tmp_path / "ask.jsonl"
    path.write_text('{"image": "1.png", "question": "Colour?"}\n{"image": "2.png", "question": "Colour?"}\n')
    good, bad = questions(path, label="ask.jsonl")
    assert isinstance(good, Question)
    assert good.row.messages[0].images[0].file == str(tmp_path / "1.png")
    assert not isinstance(bad, Question)
    assert (bad.code, bad.line) == ("D133", 2)


def test_an_image_that_has_changed_is_not_learnt_from(tmp_path: Path) -> None:
    path = png(tmp_path / "1.png")
    rows, _ = rows_of(tmp_path, {"image": "1.png", "question": "Colour?", "answer": "red"})
    (image,) = turns(rows[0])[0].images
    png(path, colour="blue")
    with pytest.raises(DataError, match="D134"):
        opened(image)
    path.unlink()
    with pytest.raises(DataError, match="D134"):
        opened(image)


def test_data_check_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png(tmp_path / "1.png")
    path = tmp_path / "rows.jsonl"
    record = {"image": "1.png", "question": "Colour?", "answer": "red"}
    path.write_text(json.dumps(record) + "\n" + json.dumps({**record, "image": "gone.png"}) + "\n")
    assert data_check([str(path)], lambda event: None).exit_code == 2
    assert run(["data", "check", str(path)]) == 2
    told = capsys.readouterr()
    assert f"{path}:2" in told.err + told.out
    assert "D133" in told.err + told.out


@pytest.mark.parametrize("name", ["digits_vqa", "nlvr_open"])
def test_real_files_are_read_as_they_are(name: str) -> None:
    path = SHARED / name / "test.jsonl"
    if not path.exists():
        pytest.skip("the shared data sets are not here")
    findings = Findings()
    rows = list(read(path, findings=findings))
    assert not findings.problems
    assert findings.formats[str(path)] == "question_answer"
    assert all(len(turns(row)[0].images) == 1 for row in rows)
