"""The checks of an audit on rows made to trip them, and on rows that come close without being wrong."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sartor.data.checks.languages import FIRST
from sartor.data.dataset import Dataset
from sartor.data.mislabels import judge, rank
from sartor.data.quality import broken_encoding, ends, mostly_signs, repeats
from sartor.data.rows import Example, Message, Origin, Row, Text
from sartor.data.sampling import sample
from sartor.data.split import undivided
from sartor.data.watching import findings
from sartor.errors import Problem

DATA = Path(__file__).parents[4] / "shared" / "data"
TOPICS = (
    "card lost stolen block",
    "transfer bank account pending",
    "exchange rate currency euro",
    "pin code forgot new",
)
FILLER = [
    "please",
    "could",
    "you",
    "tell",
    "me",
    "what",
    "i",
    "should",
    "do",
    "now",
    "about",
    "this",
    "because",
    "it",
    "is",
    "urgent",
    "today",
    "thanks",
]


def talk(prompt: str, answer: str, line: int, label: str | None = None) -> Example:
    return Example(
        origin=Origin("a.jsonl", line), messages=(Message("user", prompt), Message("assistant", answer)), label=label
    )


def found(name: str, rows: Sequence[Row]) -> list[Problem]:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.write(rows, Path(folder))
        return list(findings([name], dataset, undivided(dataset, 0.8)))


def prose(source: random.Random, length: int = 16) -> str:
    return " ".join(source.choices(FILLER, k=length)).capitalize() + "."


def answers(*said: str, sound: int = 40) -> list[Row]:
    source = random.Random(3)
    rows: list[Row] = [talk(f"question {line} {prose(source)}", prose(source), line) for line in range(1, sound + 1)]
    return rows + [talk(f"another {at}", text, sound + at) for at, text in enumerate(said, 1)]


def labelled(count: int = 400, wrong: Sequence[int] = ()) -> list[Row]:
    source = random.Random(5)
    rows: list[Row] = []
    for at in range(count):
        topic = TOPICS[at % 4]
        text = " ".join(source.sample([*topic.split(), *source.sample(FILLER, 5)], 8))
        label = topic.split()[0] if at not in wrong else TOPICS[(at + 1) % 4].split()[0]
        rows.append(talk(text, label, at + 1, label))
    return rows


def test_planted_label_errors_are_ranked_first() -> None:
    wrong = (7, 50, 111, 160)
    (problem,) = found("mislabels", labelled(wrong=wrong))
    assert (problem.code, problem.level) == ("D163", "warning")
    assert {problem.line, *problem.rows} == {at + 1 for at in wrong}
    assert 'is doubtful, the text reads like "' in problem.what
    assert found("mislabels", labelled()) == []


def test_labels_that_texts_do_not_tell_are_not_judged() -> None:
    source = random.Random(9)
    rows = [talk(prose(source), str(at % 2), at, str(at % 2)) for at in range(1, 101)]
    assert found("mislabels", rows) == []


def test_probabilities_equal_a_reference_of_the_same_model(tmp_path: Path) -> None:
    """scikit-learn's converged logistic regression ranks the same rows first."""
    linear = pytest.importorskip("sklearn.linear_model")
    from sartor.data.features import hashed

    rows = labelled(240, wrong=(3, 77, 130, 201))
    texts = [row.prompt_text() for row in rows]
    names = sorted({row.label for row in rows if isinstance(row, Example) and row.label})
    code = np.array([names.index(row.label) for row in rows if isinstance(row, Example) and row.label])
    fold = np.arange(240) % 5
    ours = judge(texts, code, fold)
    matrix = hashed(texts, 1 << 14)
    theirs = np.zeros((240, 4))
    for number in range(5):
        model = linear.LogisticRegression(C=1 / 0.3, fit_intercept=False, max_iter=500)
        model.fit(matrix[fold != number], code[fold != number])
        theirs[fold == number] = model.predict_proba(matrix[fold == number])
    given = theirs[np.arange(240), code]
    assert np.corrcoef(given, ours.given_probability)[0, 1] > 0.99
    assert set(np.argsort(-ours.score)[:4]) == set(np.argsort(given)[:4]) == {3, 77, 130, 201}


@pytest.mark.slow
def test_planted_errors_in_real_intents(tmp_path: Path) -> None:
    """Of 5 % random flips in Banking77, at least 80 % are in the first tenth of the ranking."""
    file = DATA / "banking77" / "train.jsonl"
    if not file.exists():
        pytest.skip("needs the Banking77 data set")
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    names = sorted({record["label"] for record in records})
    source = random.Random(0)
    planted = set(source.sample(range(len(records)), len(records) // 20))
    rows: list[Row] = []
    for at, record in enumerate(records):
        wrong = source.choice([name for name in names if name != record["label"]])
        label = wrong if at in planted else record["label"]
        rows.append(talk(record["text"], label, at + 1, label))
    dataset = Dataset.write(rows, tmp_path)
    suspects = rank(dataset, undivided(dataset, 0.8))
    assert suspects is not None
    first = set(suspects.rows[: len(records) // 10].tolist())
    assert len(planted & first) >= 0.8 * len(planted)


def test_answers_that_are_not_json_where_the_others_are() -> None:
    rows: list[Row] = [talk(f"ask {at}", json.dumps({"a": at, "b": "x", "c": [1]}), at) for at in range(1, 41)]
    rows += [talk("late", "Here it is: {}", 41), talk("late", "[1, 2]", 42), talk("less", '{"a": 1, "c": []}', 43)]
    rows += [talk("text", '{"a": "seven", "b": "x", "c": null}', 44)]
    said = [(problem.code, problem.line, problem.what) for problem in found("answer_format", rows)]
    assert said == [
        ("D165", 41, "this answer is plain text, not a JSON object; 95.5 % of 44 are"),
        ("D165", 42, "this answer is a JSON list, not a JSON object; 95.5 % of 44 are"),
        ("D166", 44, 'the key "a" holds text here, a number in 97.6 % of 42'),
        ("D166", 43, 'the key "b" is missing in this answer; 97.6 % of 42 have it'),
    ]
    assert found("answer_format", rows[:40]) == []


def test_dates_in_two_forms() -> None:
    rows: list[Row] = [talk(f"ask {at}", f"On 2026-03-{at % 28 + 1:02d}.", at) for at in range(1, 41)]
    rows.append(talk("ask", "On 3.4.2026.", 41))
    (problem,) = found("answer_format", rows)
    assert (problem.code, problem.line) == ("D167", 41)
    assert problem.what == "dates are written like 31.12.2026 here, 2026-12-31 in 97.6 % of 41"


def test_mixed_forms_are_a_style() -> None:
    rows = [talk(f"ask {at}", '{"a": 1}' if at % 2 else "text", at) for at in range(1, 41)]
    assert found("answer_format", rows) == []


def test_text_faults_have_their_codes() -> None:
    rows = answers(
        "the same words again and " * 30 + "on.",
        "#### $$$$ %%%% &&&& **** ((((( ))))) ===== +++++ ~~~~~ ^^^^^",
        "As an AI language model, I cannot tell.",
        "It doesnâ€™t work.",
        "I wanted to tell you today that the parcel has arrived and that it was",
    )
    codes = {problem.code: problem for problem in found("quality", rows)}
    assert {code: problem.line for code, problem in codes.items()} == {
        "D145": 41,
        "D146": 42,
        "D148": 43,
        "D149": 44,
        "D147": 45,
    }
    assert found("quality", answers()) == []


@pytest.mark.parametrize(
    "text",
    [
        "- buy milk\n- buy bread\n- buy butter\n- call the office before noon\n- write the long report",
        "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b",
        "| a | b |\n|---|---|\n| 1 | 2 |\n|---|---|",
        "नमस्ते, आप कैसे हैं? मैं ठीक हूँ, धन्यवाद। यह एक वाक्य है जो हिंदी में है।",
        "Der Café-Besitzer zahlte 3 € für «Äpfel» – naïve, façade, Ångström.",
        "In HTML write &lt;b&gt; as <b>bold</b>.",
    ],
)
def test_sound_texts_have_no_fault(text: str) -> None:
    assert not repeats(text)
    assert not mostly_signs(text)
    assert not broken_encoding(text)


def test_what_need_not_end_like_a_sentence() -> None:
    assert ends("Forty two") is None
    assert ends("Here are the words that you asked for, in their order, one by one:\n- one two three four five") is None
    assert ends("This is a whole sentence with more than twelve words, and it has an end.") is True
    assert ends("This is a sentence with more than twelve words, but it has not got an") is False


def test_a_few_rows_in_another_language() -> None:
    rows = answers("Le colis n'est pas encore arrivé et personne ne répond au téléphone depuis hier.")
    (problem,) = found("languages", rows)
    assert (problem.code, problem.line) == ("D164", 41)
    assert problem.what == "the answer is in French; 40 of 41 are in English"
    assert found("languages", answers()) == []


def test_letters_written_apart() -> None:
    rows = [Text(origin=Origin("a.jsonl", 1), text="café"), Text(origin=Origin("a.jsonl", 2), text="cafe\u0301")]
    (problem,) = found("normal_form", rows)
    assert (problem.code, problem.level, problem.line) == ("S312", "info", 2)


def test_one_answer_for_many_questions() -> None:
    rows = answers(*["I do not know that."] * 20)
    (problem,) = found("diversity", rows)
    assert (problem.code, problem.line) == ("D168", 41)
    assert problem.what == "33.3 % of 60 answers are the same (20 rows)"
    assert found("diversity", labelled()) == []


def test_of_many_rows_a_sample_tells_whether_more_are_looked_at(tmp_path: Path) -> None:
    english = "The parcel has not arrived yet, and nobody answers the telephone today."
    french = "Le colis n'est pas encore arriv\u00e9 et personne ne r\u00e9pond au t\u00e9l\u00e9phone depuis hier."
    rows = [talk("?", f"{english} {line}", line) for line in range(1, FIRST + 401)]
    foreign = [talk("?", f"{french} {line}", line) for line in range(5001, 5041)]
    both = Dataset.write([*rows, *foreign], tmp_path / "both")
    (problem,) = findings(["languages"], both, undivided(both, 0.8))
    assert (problem.code, problem.line, problem.rows) == ("D164", 5001, tuple(range(5002, 5041)))
    assert f"{len(rows):,} of {len(both):,} are in English" in problem.what
    first = set(sample(both, FIRST))
    outside = next(row for at, row in enumerate(foreign, len(rows)) if at not in first)
    few = Dataset.write([*rows, outside], tmp_path / "few")
    assert len(rows) not in sample(few, FIRST)
    assert list(findings(["languages"], few, undivided(few, 0.8))) == []
