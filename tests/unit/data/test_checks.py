"""Each check on rows made to trip it, and on rows that come close without being wrong."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Judged, Message, Origin, Preference, Row, Text
from sartor.data.split import split, undivided
from sartor.data.watching import findings
from sartor.errors import Problem

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "s")]


def sentence(source: random.Random, length: int = 20) -> str:
    return " ".join(source.choices(WORDS, k=length))


def talk(prompt: str, answer: str, line: int = 1, file: str = "a.jsonl", **fields: Any) -> Example:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Example(origin=Origin(file, line), messages=turns, **fields)


def labelled(labels: Sequence[str]) -> list[Row]:
    source = random.Random(0)
    return [talk(sentence(source), label, line, label=label) for line, label in enumerate(labels, 1)]


def found(name: str, rows: Sequence[Row], roles: Sequence[str | None] | None = None) -> list[Problem]:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.write(rows, Path(folder))
        if roles is None:
            splits = undivided(dataset, 0.8)
        else:
            splits = split(dataset, train=0.8, validation=0.1, test=0.1, near_duplicates=0.8, seed=7, fixed=roles)
        return list(findings([name], dataset, splits))


def test_duplicates_are_counted_and_the_first_is_named() -> None:
    source = random.Random(1)
    rows = [talk(sentence(source), "answer", line) for line in range(1, 51)]
    first = rows[2].prompt_text()
    rows[14] = talk(first.upper(), "Answer", 15)
    rows[20] = talk(first + " please", "answer", 21)
    rows[30] = talk(first, "answer", 31)
    (problem,) = found("duplicates", rows)
    assert (problem.code, problem.level, problem.line, problem.rows) == ("D150", "warning", 15, (21, 31))
    assert problem.what == "same as a.jsonl:3 (2 exact, 1 near duplicates, 6 %)"
    assert found("duplicates", rows[:10]) == []


def test_a_near_duplicate_is_not_called_the_same() -> None:
    text = sentence(random.Random(1))
    (problem,) = found("duplicates", [talk(text, "a", 1), talk(f"{text} please", "a", 2)])
    assert problem.what.startswith("nearly the same as a.jsonl:1 (0 exact, 1 near")


def leaky() -> tuple[list[Row], list[str]]:
    source = random.Random(2)
    rows: list[Row] = [talk(sentence(source), sentence(source, 5), line) for line in range(1, 41)]
    held = [talk(sentence(source), sentence(source, 5), line, "test.jsonl") for line in range(1, 21)]
    held[3] = talk(rows[8].prompt_text(), "another answer", 4, "test.jsonl")
    held[5] = talk(rows[9].prompt_text(), rows[9].answer_text(), 6, "test.jsonl")
    held[7] = talk(f"{rows[4].prompt_text()} please", rows[4].answer_text(), 8, "test.jsonl")
    return [*rows, *held], ["train"] * 40 + ["test"] * 20


def test_leaks_between_given_files_are_errors() -> None:
    exact, near = found("leakage", *leaky())
    assert (exact.code, exact.level, exact.where, exact.rows) == ("D151", "error", "test.jsonl:4", (6,))
    assert exact.what == "same prompt as a.jsonl:9 (2 of 20 test rows, 10 %)"
    assert (near.code, near.level, near.where) == ("D152", "error", "test.jsonl:8")
    assert near.what == "nearly the same as a.jsonl:5 (1 of 20 test rows, 5 %)"
    assert "role: split" in str(exact.fix)


def test_what_the_fix_says_mends_the_leak() -> None:
    rows, roles = leaky()
    assert found("leakage", rows, [None if role == "train" else role for role in roles]) == []


def test_rows_that_we_divide_never_leak() -> None:
    rows, _ = leaky()
    assert found("leakage", rows, [None] * len(rows)) == []


def test_contradictions_name_both_answers() -> None:
    rows = [talk("Can I get my money back?", "refund", 4), talk("can I get  my money back?", "no refund", 12)]
    (problem,) = found("contradictions", rows)
    assert (problem.code, problem.line) == ("D160", 12)
    assert problem.what == 'same prompt as a.jsonl:4, other answer ("refund" / "no refund")'
    assert found("contradictions", [rows[0], talk("Can I get my money back?", " Refund", 9)]) == []


def test_answers_of_some_length_may_differ() -> None:
    source = random.Random(0)
    rows = [talk("Write a story.", sentence(source, 30), line) for line in (1, 2)]
    assert found("contradictions", rows) == []


def test_another_system_prompt_is_another_question() -> None:
    def row(system: str, answer: str) -> Row:
        turns = (Message("system", system), Message("user", "Is it late?"), Message("assistant", answer))
        return Example(origin=Origin("a", 1), messages=turns)

    assert found("contradictions", [row("It is nine.", "no"), row("It is midnight.", "yes")]) == []
    assert found("contradictions", [row("It is nine.", "no"), row("It is nine.", "yes")])


@pytest.mark.parametrize("typo", ["postive", "positve", "psoitive", "Positivee"])
def test_a_rare_label_one_slip_from_a_frequent_one_is_an_error(typo: str) -> None:
    rows = labelled(["positive"] * 40 + ["negative"] * 40 + [typo])
    (problem,) = found("label_typos", rows)
    assert (problem.code, problem.level, problem.line) == ("D161", "error", 81)
    assert problem.what == f'label "{typo}" is used once; did you mean "positive" (40)?'


@pytest.mark.parametrize(
    "labels",
    [
        ["class_1"] * 40 + ["class_2"],
        ["positive"] * 40 + ["passive"],
        ["yes"] * 40 + ["yep"],
        ["card_payment_not_recognised"] * 40 + ["cash_withdrawal_not_recognised"],
        ["positive"] * 4 + ["postive"] * 2,
    ],
)
def test_labels_that_are_meant_are_left_alone(labels: list[str]) -> None:
    assert found("label_typos", labelled(labels)) == []


def test_labels_that_differ_in_case_only_are_a_warning() -> None:
    (problem,) = found("label_typos", labelled(["spam"] * 30 + ["Spam"] * 12 + ["ham"] * 30))
    assert (problem.level, problem.line) == ("warning", 31)
    assert '"Spam" is used 12 times, "spam" 30 times' in problem.what


def test_imbalance_says_what_always_guessing_gives() -> None:
    (problem,) = found("imbalance", labelled(["positive"] * 91 + ["negative"] * 8 + ["neutral"]))
    assert (problem.code, problem.level, problem.line) == ("D162", "warning", 100)
    assert problem.what == '"neutral" is 1 % of 100; accuracy would be 91 % by always saying "positive"'
    assert found("imbalance", labelled(["a"] * 60 + ["b"] * 40)) == []


def test_one_label_only_is_nothing_to_learn() -> None:
    (problem,) = found("imbalance", labelled(["a"] * 30))
    assert (problem.code, problem.level) == ("D162", "error")


def pair(chosen: str, rejected: str, line: int) -> Preference:
    turn = Message("user", f"question {line}")
    return Preference(
        origin=Origin("p.jsonl", line),
        prompt=(turn,),
        chosen=(Message("assistant", chosen),),
        rejected=(Message("assistant", rejected),),
    )


def test_length_bias() -> None:
    pairs = [pair("long answer", "short", line) if line % 10 else pair("a", "other", line) for line in range(1, 101)]
    (problem,) = found("preference", pairs)
    assert (problem.code, problem.what) == ("D171", "chosen is longer in 90 % of 100 pairs (length bias)")
    assert found("preference", [pair("a" * (line % 2 + 1), "bbb"[: 2 - line % 2], line) for line in range(100)]) == []


def test_one_verdict_only() -> None:
    def row(liked: bool, line: int) -> Row:
        turns = (Message("user", f"q{line}"),), (Message("assistant", "a"),)
        return Judged(origin=Origin("k", line), prompt=turns[0], completion=turns[1], liked=liked)

    (problem,) = found("preference", [row(True, line) for line in range(1, 9)])
    assert (problem.code, problem.level, problem.line) == ("D172", "error", 1)
    assert found("preference", [row(True, 1), row(False, 2)]) == []


@pytest.mark.parametrize(("character", "name"), [("\u202e", "override U+202E"), ("\u2066", "isolate U+2066")])
def test_characters_that_turn_the_text_around(character: str, name: str) -> None:
    rows = [talk("fine", "ä", 1), talk(f"a {character} b", "x", 5), talk(f"c {character} d", "x", 9)]
    (problem,) = found("encoding", rows)
    assert (problem.code, problem.line, problem.rows) == ("S310", 5, (9,))
    assert problem.what == f"bidi {name} (2 rows)"


def test_words_of_two_scripts() -> None:
    (problem,) = found("encoding", [talk("log in at pаypal now", "x", 3)])
    assert (problem.code, problem.line) == ("S311", 3)
    assert problem.what == 'mixed scripts in one word ("pаypal": Cyrillic а)'


@pytest.mark.parametrize("text", ["5 μm, Δx, TGFβ, 3Ω", "Привет world", "naïve Straße", "日本語text", "IPадрес"])
def test_scripts_side_by_side_are_fine(text: str) -> None:
    assert found("encoding", [talk(text, "x")]) == []


SECRETS = {
    "an AWS key": "AKIA" + "Q" * 16,
    "a GitHub token": "ghp_" + "a1" * 18,
    "an OpenAI key": "sk-proj-" + "Ab1_" * 12,
    "a Hugging Face token": "hf_" + "aB" * 17,
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
}


@pytest.mark.parametrize(("name", "secret"), SECRETS.items())
def test_keys_are_errors_and_never_shown(name: str, secret: str) -> None:
    rows = [talk("hello", "world", 1), talk("use", f'key="{secret}", now', 40), talk(secret, "again", 41)]
    (problem,) = found("secrets", rows)
    assert (problem.code, problem.level, problem.line, problem.rows) == ("S301", "error", 40, (41,))
    assert problem.what == f"{name} (2 rows)"
    assert secret not in str(problem) or name == "a private key"


def test_keys_in_columns_nobody_trains_on_are_found() -> None:
    assert found("secrets", [talk("a", "b", columns={"note": SECRETS["an AWS key"]})])


@pytest.mark.parametrize(
    "text", ["AKIA is a prefix", "sk-learn and task-oriented-dialogue", "ghp_short", "HF_HOME=hf_cache"]
)
def test_words_that_look_a_little_like_keys(text: str) -> None:
    assert found("secrets", [talk(text, "x")]) == []


def test_mail_addresses_are_counted_by_file() -> None:
    rows = [
        talk("write to bob@example.org", "x", 2),
        talk("b", "see a.b+c@mail.example.co.uk.", 7),
        talk("@you me@home", "x", 8),
    ]
    (problem,) = found("secrets", rows)
    assert (problem.code, problem.level, problem.line, problem.rows) == ("S302", "warning", 2, (7,))
    assert problem.what == "e-mail addresses (2 rows)"


def test_long_runs_without_a_sign_are_scanned_quickly() -> None:
    text = "a" * 300_000 + "@" * 20_000
    assert found("secrets", [Text(origin=Origin("t", 1), text=text)]) == []


def test_a_cluster_that_decides_the_split_is_a_warning() -> None:
    source = random.Random(1)
    rows = [talk(sentence(source), "x", line, group="one" if line > 30 else None) for line in range(1, 51)]
    (problem,) = found("clustering", rows)
    assert (problem.code, problem.level, problem.line) == ("D156", "warning", 31)
    assert problem.what.startswith("20 rows (40 %) must stay together")
    assert found("clustering", [talk(row.prompt_text(), "x", line) for line, row in enumerate(rows)]) == []


def test_a_common_frame_is_told() -> None:
    source = random.Random(1)
    frames = sentence(source, 150), sentence(source, 150)
    one, other = found("clustering", [talk(f"{frames[n % 2]} {sentence(source, 8)}", "x", n) for n in range(60)])
    assert {one.line, other.line} == {0, 1}
    assert (one.code, one.level, len(one.rows)) == ("D158", "info", 29)
