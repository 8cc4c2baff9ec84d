from __future__ import annotations

from pathlib import Path

import pytest

from sartor.errors import InputError, RecipeError
from sartor.evaluate.metrics import defaults, load, wants
from sartor.protocols import Metric, Outcome

ROWS = [
    Outcome("a.jsonl:1", "p", "abcd", "ab", columns={"bonus": 1}),
    Outcome("a.jsonl:2", "p", "abcd", "abcd", columns={"bonus": 0}),
]


def value(metric: Metric, rows: list[Outcome] = ROWS) -> float:
    return float(metric.combine(metric.stats(rows).sum(axis=0)))


def write(folder: Path, source: str, name: str = "mine.py") -> Path:
    (folder / name).write_text(source, encoding="utf-8")
    return folder / name


def refusal(names: list[str], root: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load(names, root)
    return str(caught.value)


def test_names_and_functions_in_the_order_given_each_once(tmp_path: Path) -> None:
    write(tmp_path, "def share(prediction, reference):\n    return len(prediction) / len(reference)\n")
    found = load(["rougeL", "mine.py:share", "accuracy", "rougeL"], tmp_path)
    assert [metric.name for metric in found] == ["rougeL", "mine.py:share", "accuracy"]
    assert value(found[1]) == pytest.approx(0.75)
    assert isinstance(found[1], Metric)


def test_a_third_argument_gets_the_columns_and_a_bool_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        "def right(prediction, reference, columns):\n    return columns['bonus'] == 1\n"
        "def extra(prediction, reference, columns=None):\n    return columns['bonus'] * 2\n"
        "def off(prediction: str, reference: str) -> float:\n    return abs(len(prediction) - len(reference))\n"
        "off.higher_is_better = False\n",
    )
    right, extra, off = load(["mine.py:right", "mine.py:extra", "mine.py:off"], tmp_path)
    assert (value(right), value(extra), value(off)) == (0.5, 1.0, 1.0)
    assert right.higher_is_better
    assert not off.higher_is_better


def test_imports_and_dataclasses_work_in_the_users_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Pair:\n    a: str\n    b: str\n"
        "def same(prediction, reference):\n    return Pair(prediction, reference).a == reference\n",
    )
    assert value(load(["mine.py:same"], tmp_path)[0]) == 0.5


def test_every_wrong_name_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "def good(prediction, reference):\n    return 1\ndef bad(prediction):\n    return 1\n")
    write(tmp_path, "x = 1\nthis is not python\n", "broken.py")
    write(tmp_path, "import nothing_of_this_name\n", "imports.py")
    write(tmp_path, "raise SystemExit(0)\n", "exits.py")
    names = ["rouge", "gone.py:f", "broken.py:f", "imports.py:f", "mine.py:god", "mine.py:bad", "mine.py", "exits.py:f"]
    text = refusal([*names, "accuracy"], tmp_path)
    assert 'R140: unknown metric "rouge"; did you mean "rouge' in text
    assert "R141" in text
    assert f"{tmp_path / 'broken.py'}:2: error R142" in text
    assert f"{tmp_path / 'imports.py'}:1: error R142" in text
    assert "No module named 'nothing_of_this_name'" in text
    assert 'no function "god". Fix: it has good, bad' in text
    assert f"{tmp_path / 'mine.py'}:3: error R144" in text
    assert "mine.py:function" in text
    assert f"{tmp_path / 'exits.py'}:1: error R142" in text


def test_a_function_that_raises_names_line_and_row(tmp_path: Path) -> None:
    write(
        tmp_path,
        "def deep(x):\n    return {}[x]\n\n"
        "def f(prediction, reference):\n    return deep(prediction) if prediction == 'abcd' else 1.0\n",
    )
    with pytest.raises(InputError) as caught:
        value(load(["mine.py:f"], tmp_path)[0])
    text = str(caught.value)
    assert f"{tmp_path / 'mine.py'}:2: error E101: mine.py:f failed on row a.jsonl:2: KeyError: 'abcd'" in text


@pytest.mark.parametrize("result", ["None", "'high'", "float('nan')", "[1]", "10 ** 400"])
def test_a_function_that_gives_no_number_is_refused(tmp_path: Path, result: str) -> None:
    write(tmp_path, f"def f(prediction, reference):\n    return {result}\n")
    with pytest.raises(InputError) as caught:
        value(load(["mine.py:f"], tmp_path)[0])
    assert "E102" in str(caught.value)
    assert "a.jsonl:1" in str(caught.value)


def test_ctrl_c_inside_a_function_is_not_swallowed(tmp_path: Path) -> None:
    write(tmp_path, "def f(prediction, reference):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        value(load(["mine.py:f"], tmp_path)[0])


def test_defaults_follow_the_task_and_the_references() -> None:
    assert defaults("classify")[0] == "accuracy"
    assert defaults("pretrain") == ["perplexity", "bits_per_byte"]
    assert defaults("chat", ["hello", "there"]) == ["perplexity", "exact_match", "rougeL"]
    objects = ['{"a": 1}'] * 19
    assert defaults("generate", [*objects, "sorry"])[:2] == ["field_f1", "json_valid"]
    assert "json_valid" not in defaults("generate", [*objects, "sorry", "sorry"])
    assert "json_valid" not in defaults("chat", ["1", "2"])
    load(defaults("chat", objects) + defaults("classify"), Path())


def test_wants() -> None:
    metrics = load(["accuracy", "perplexity"], Path())
    assert wants(metrics, "classify") == {"label", "nll"}
    assert wants(metrics, "chat") == {"prediction", "nll"}
