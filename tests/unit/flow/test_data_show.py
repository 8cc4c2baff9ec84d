import json
from io import StringIO

import pytest
from rich.console import Console
from unit.tokens.families import FAMILIES, write_model

from sartor.errors import DataError
from sartor.flow.data_show import data_show, visible


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe on a folder with a vocabulary, a template and no real weights."""
    folder = write_model(tmp_path / "base", "bytes", FAMILIES["chatml"])
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": 5000}')
    (folder / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"topic{i * 7} <b>"},
                {"role": "assistant", "content": f"fact{i}\nyes é"},
            ]
        }
        for i in range(30)
    ]
    rows[1]["messages"][1]["weight"] = 0.5
    rows[2]["messages"].insert(0, {"role": "system", "content": "\u202eBe brief <|im_end|>"})
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "recipe.yaml").write_text("base: base\ndata: rows.jsonl\n")
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "recipe.yaml")


def show(recipe, **options):
    return data_show(recipe, emit=lambda event: None, **options)


def test_pieces_say_what_is_learnt(recipe):
    result = show(recipe, rows=2)
    one, two = result.rows
    assert [(piece.text, piece.weight, piece.kind) for piece in one.pieces[-4:]] == [
        ("assistant\n", 0.0, "given"),
        ("fact0\nyes é", 1.0, "learnt"),
        ("<|im_end|>", 1.0, "learnt control"),
        ("\n", 0.0, "given"),
    ]
    assert sum(piece.tokens for piece in one.pieces) == one.tokens
    assert sum(piece.tokens for piece in one.pieces if piece.weight) == one.supervised
    assert {piece.weight for piece in two.pieces} == {0.0, 0.5}
    assert json.loads(json.dumps(result.json()))["rows"][0]["line"] == 1
    assert result.exit_code == 0


def test_chooses_rows_and_parts(recipe):
    assert [shown.row for shown in show(recipe, row=17).rows] == [17]
    test = show(recipe, rows=99, split="test").rows
    assert {shown.part for shown in test} == {"test"}
    assert 1 <= len(test) < 10
    outside = next(row for row in range(30) if row not in {shown.row for shown in test})
    with pytest.raises(DataError, match="D176: there is no row"):
        show(recipe, row=outside, split="test")
    with pytest.raises(DataError, match="it has 30 rows"):
        show(recipe, row=30)


def printed(result, **options):
    stream = StringIO()
    result.render(Console(file=stream, width=200, highlight=False, markup=False, **options))
    return stream.getvalue()


def test_prints_with_and_without_colour(recipe):
    result = show(recipe, rows=3)
    plain = printed(result)
    assert "[[fact0⏎\nyes é]][[<|im_end|>]]" in plain
    assert "x0.5" in plain
    assert "\u202e" not in plain
    assert "rows.jsonl:1" in plain
    coloured = printed(result, force_terminal=True, color_system="standard", legacy_windows=False)
    assert "\x1b[30;42m" in coloured
    assert "[[" not in coloured


def test_writes_a_page_without_active_content(recipe, tmp_path):
    page = tmp_path / "page.html"
    result = show(recipe, rows=3, html=page)
    text = page.read_text()
    assert result.page == page
    assert '<span class="learnt"' in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    assert str(page) in printed(result)


def test_a_row_that_breaks_the_contract_is_shown_with_its_fault(recipe, tmp_path):
    (tmp_path / "base" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    result = show(recipe, rows=1)
    assert result.exit_code == 2
    assert "error T210" in printed(result)


@pytest.mark.parametrize(
    ("text", "shown"), [("a  b", "a··b"), ("a b", "a b"), (" a \n b", "·a·⏎\n·b"), ("\t", "→\t"), ("   ", "···")]
)
def test_whitespace_is_visible(text, shown):
    assert visible(text) == shown


def test_rows_are_shown_though_a_run_would_be_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"text number {i}", "label": "positive" if i % 2 else "negative"} for i in range(40)]
    rows[3]["label"] = "positve"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = show("rows.jsonl", row=3)
    assert result.rows[0].pieces[-3].text == "positve"
    assert "refused for 1 error in" in printed(result)
    with pytest.raises(DataError, match="D113"):
        show("gone.jsonl")
