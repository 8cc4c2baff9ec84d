"""The split: what belongs together stays together, shares and strata hold, and only seed and content decide."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Message, Origin, Row, Text
from sartor.data.split import PARTS, Splits, split
from sartor.errors import DataError

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "s", "lo", "mi")]
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def sentence(source: random.Random, length: int = 12) -> str:
    return " ".join(source.choices(WORDS, k=length))


def talk(prompt: str, answer: str, line: int = 1, *, file: str = "a.jsonl", **fields: Any) -> Example:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Example(origin=Origin(file, line), messages=turns, **fields)


def labelled(prompt: str, label: str, line: int = 1) -> Example:
    return talk(prompt, label, line, label=label, stratum=label)


def strangers(count: int, seed: int = 0, length: int = 12) -> list[Row]:
    source = random.Random(seed)
    return [talk(sentence(source, length), sentence(source, 6), line) for line in range(1, count + 1)]


def divide(rows: Sequence[Row], **changes: Any) -> tuple[Splits, Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.write(rows, Path(folder))
        settings: dict[str, Any] = {**SHARES, "near_duplicates": 0.8, "seed": 7, **changes}
        return split(dataset, **settings), dataset


def parts(rows: Sequence[Row], **changes: Any) -> list[str]:
    part = divide(rows, **changes)[0].part
    return [PARTS[number] if number >= 0 else "out" for number in part]


def test_parts_have_their_shares() -> None:
    assert Counter(parts(strangers(1000))) == {"train": 800, "validation": 100, "test": 100}
    assert Counter(parts(strangers(200), train=0.5, validation=0.0, test=0.5)) == {"train": 100, "test": 100}


@pytest.mark.parametrize("count", range(3, 31))
def test_small_sets_have_a_row_in_every_part(count: int) -> None:
    sizes = Counter(parts(strangers(count)))
    assert sum(sizes.values()) == count
    assert min(sizes[name] for name in PARTS) >= 1
    for name, share in SHARES.items():
        assert abs(sizes[name] - share * count) < 2


def test_too_few_rows_is_said_with_how_many_are_needed() -> None:
    for rows in (strangers(2), [talk("same question", f"answer {n}", n) for n in range(4)] + strangers(1)):
        with pytest.raises(DataError, match=r"D154.*too few rows") as refused:
            divide(rows)
        assert "add at least 1 different row" in str(refused.value)
    assert Counter(parts(strangers(2), train=0.5, validation=0.0, test=0.5)) == {"train": 1, "test": 1}


def near(text: str, source: random.Random) -> str:
    words = text.split()
    place = source.randrange(len(words))
    change = source.choice(("swap case", "replace", "append", "drop", "punctuate"))
    if change == "replace":
        words[place] = "changed"
    elif change == "append":
        words.append("please")
    elif change == "drop":
        del words[place]
    elif change == "punctuate":
        words[place] += ","
    else:
        words[place] = words[place].upper()
    return " ".join(words)


@pytest.mark.parametrize("seed", range(6))
def test_planted_twins_never_straddle(seed: int) -> None:
    source = random.Random(seed)
    rows = strangers(300, seed)
    twins: list[list[int]] = []
    for kind in ("exact", "spaced", "near", "prompt", "group", "family") * 8:
        prompt, answer = sentence(source, source.randint(16, 40)), sentence(source, 10)
        own = {"group": f"customer {len(twins)}"} if kind == "group" else {}
        versions = {
            "exact": [(prompt, answer)] * 3,
            "spaced": [(prompt, answer), (f"  {prompt.upper()}\n", answer.replace(" ", "  "))],
            "near": [(prompt, answer), (near(prompt, source), answer)],
            "prompt": [(prompt, answer), (prompt, sentence(source, 30))],
            "group": [(sentence(source), sentence(source)) for _ in range(4)],
            "family": [(prompt, answer), *((near(prompt, source), answer) for _ in range(5))],
        }[kind]
        twins.append(list(range(len(rows), len(rows) + len(versions))))
        rows += [talk(*version, len(rows) + 1 + n, **own) for n, version in enumerate(versions)]
    order = source.sample(range(len(rows)), len(rows))
    found = dict(zip(order, parts([rows[at] for at in order], seed=seed), strict=True))
    for family in twins:
        assert len({found[row] for row in family}) == 1
    assert Counter(found.values())["test"] == pytest.approx(0.1 * len(rows), abs=0.02 * len(rows))


def test_twins_among_texts_in_a_script_without_spaces() -> None:
    source = random.Random(3)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 800)]
    rows: list[Row] = []
    for line in range(100):
        text = "".join(source.choices(letters, k=60))
        rows.append(Text(origin=Origin("t", line), text=text))
        rows.append(Text(origin=Origin("t", line), text=text[:30] + "字" + text[31:]))
    found = parts(rows)
    assert found[::2] == found[1::2]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_order_never_matters(data: st.DataObject) -> None:
    source = random.Random(data.draw(st.integers(0, 5)))
    rows: list[Row] = []
    for line in range(data.draw(st.integers(3, 60))):
        prompt = sentence(source, source.randint(1, 14))
        label = source.choice(("yes", "no", "rare"))
        rows += [
            talk(
                near(prompt, source) if copy else prompt, label, line, group=source.choice((None, "g1")), stratum=label
            )
            for copy in range(source.choice((1, 1, 1, 3)))
        ]
    order = data.draw(st.permutations(range(len(rows))))
    seed = data.draw(st.integers(0, 3))
    try:
        expected = parts(rows, seed=seed)
    except DataError:
        with pytest.raises(DataError):
            parts([rows[at] for at in order], seed=seed)
        return
    shuffled = parts([rows[at] for at in order], seed=seed)
    by_content = defaultdict(set)
    for row, part in [*zip(rows, expected, strict=True), *zip((rows[at] for at in order), shuffled, strict=True)]:
        by_content[row.content_hash()].add(part)
    assert all(len(found) == 1 for found in by_content.values())
    assert Counter(expected) == Counter(shuffled)


def test_seeds_differ_and_repeat() -> None:
    rows = strangers(300)
    assert parts(rows, seed=1) == parts(rows, seed=1)
    assert parts(rows, seed=1) != parts(rows, seed=2)
    both = sum(a == b == "test" for a, b in zip(parts(rows, seed=1), parts(rows, seed=2), strict=True))
    assert both <= 10


def worst_stratum(rows: Sequence[Row], found: Sequence[str]) -> float:
    whole = Counter(row.stratum for row in rows)
    worst = 0.0
    for name in PARTS:
        inside = Counter(row.stratum for row, part in zip(rows, found, strict=True) if part == name)
        total = sum(inside.values())
        if total:
            worst = max(worst, *(abs(inside[key] / total - count / len(rows)) for key, count in whole.items()))
    return worst


@pytest.mark.parametrize(
    "counts", [(500, 300, 150, 50), (900, 60, 40), (34, 33, 33) * 6, (100,) * 20, (970, 10, 10, 10)]
)
def test_a_file_sorted_by_label_keeps_its_strata(counts: tuple[int, ...]) -> None:
    source = random.Random(5)
    rows = [labelled(sentence(source), f"label {n}") for n, count in enumerate(counts) for _ in range(count)]
    found = parts(rows)
    assert worst_stratum(rows, found) <= 0.02
    for name, share in SHARES.items():
        assert abs(found.count(name) / len(rows) - share) <= 0.01


@pytest.mark.parametrize("seed", range(4))
def test_strata_hold_when_rows_come_in_groups(seed: int) -> None:
    source = random.Random(seed)
    rows: list[Row] = []
    for number in range(150):
        label = source.choices(("a", "b", "c"), (6, 3, 1))[0]
        rows += [
            talk(sentence(source), "answer", len(rows) + n, group=f"g{number}", stratum=label)
            for n in range(source.randint(1, 15))
        ]
    found = parts(rows, seed=seed)
    assert worst_stratum(rows, found) <= 0.02
    for name, share in SHARES.items():
        assert abs(found.count(name) / len(rows) - share) <= 0.02


def test_every_label_can_be_learnt() -> None:
    source = random.Random(2)
    labels = [f"common {n}" for n in range(5) for _ in range(60)] + [f"rare {n}" for n in range(4) for _ in range(3)]
    rows = [labelled(sentence(source), label) for label in labels]
    found = parts(rows)
    trained = {row.label for row, part in zip(rows, found, strict=True) if part == "train"}
    assert trained == set(labels)


def test_strata_as_many_as_rows_do_not_empty_a_part() -> None:
    rows = [talk(f"{row.prompt_text()}", "a", n, stratum=str(n)) for n, row in enumerate(strangers(200))]
    assert Counter(parts(rows)) == {"train": 160, "validation": 20, "test": 20}


def test_stratify_by_a_column() -> None:
    rows = [
        talk(row.prompt_text(), "a", n, columns={"lang": "de" if n < 60 else "en"})
        for n, row in enumerate(strangers(300))
    ]
    found = parts(rows, stratify="lang")
    german = Counter(found[:60])
    assert german == {"train": 48, "validation": 6, "test": 6}
    with pytest.raises(DataError, match=r"D155.*no row has the column \"language\".*lang"):
        divide(rows, stratify="language")


def test_one_utterance_files_do_not_chain_into_one_cluster() -> None:
    source = random.Random(1)
    verbs, things, when = WORDS[:12], WORDS[20:50], WORDS[60:75]
    texts = {f"please {source.choice(verbs)} my {source.choice(things)} {source.choice(when)}" for _ in range(1500)}
    rows = [labelled(text, f"label {number % 4}", number) for number, text in enumerate(sorted(texts))]
    splits, _ = divide(rows)
    assert splits.clusters.sizes.max() <= 0.02 * len(rows)
    assert Counter(splits.part.tolist())[2] == pytest.approx(0.1 * len(rows), abs=1)


@pytest.mark.parametrize(("frames", "large"), [(1, 0), (3, 3)])
def test_a_long_common_instruction_does_not_make_twins_of_all_rows(frames: int, large: int) -> None:
    source = random.Random(1)
    frame = [sentence(source, 150) for _ in range(frames)]
    rows = [talk(f"{frame[n % frames]}: {sentence(source, 8)}", sentence(source, 4), n) for n in range(200)]
    twin = talk(f"{rows[17].prompt_text()} please", rows[17].answer_text(), 999)
    splits, _ = divide([*rows, twin])
    assert len(splits.clusters.large) == large
    assert splits.clusters.count == 200
    assert splits.part[17] == splits.part[-1]
    assert Counter(splits.part.tolist()) == {0: 161, 1: 20, 2: 20}


def test_a_short_instruction_does_not_hide_twins() -> None:
    source = random.Random(1)
    frame = sentence(source, 20)
    rows: list[Row] = []
    for line in range(150):
        text = sentence(source, 8)
        rows.append(talk(f"{frame}: {text}", "yes", line))
        rows.append(talk(f"{frame}: {near(text, source)}", "yes", line))
    splits, _ = divide(rows)
    assert splits.part[::2].tolist() == splits.part[1::2].tolist()
    assert splits.clusters.sizes.max() <= 4


def test_a_chain_is_cut_where_it_is_weakest() -> None:
    words = WORDS[:230]
    rows = [talk(" ".join(words[start : start + 30]), "same", start) for start in range(200)]
    splits, _ = divide(rows)
    assert splits.clusters.sizes.max() < 200
    assert set(splits.part.tolist()) == {0, 1, 2}
    assert splits.residual is not None
    assert splits.residual.max > 0.8


def test_one_prompt_for_all_rows_identifies_none() -> None:
    source = random.Random(1)
    rows = [talk("Write a line.", sentence(source, 12), n) for n in range(100)]
    assert Counter(parts(rows)) == {"train": 80, "validation": 10, "test": 10}


def test_copies_stay_together_where_prompts_say_nothing() -> None:
    source = random.Random(1)
    answers = [sentence(source, 12) for _ in range(60)]
    for prompt in ("Write a line.", ""):
        found = parts([talk(prompt, answer, columns={"n": n}) for answer in answers for n in range(2)])
        assert found[::2] == found[1::2]
        assert len(set(found)) == 3


def test_system_turns_do_not_hide_or_make_twins() -> None:
    source = random.Random(1)
    persona = [sentence(source, 80) for _ in range(2)]
    questions = [sentence(source, 12) for _ in range(100)]
    rows: list[Row] = []
    for number, question in enumerate(questions):
        for system in persona:
            turns = (Message("system", system), Message("user", question), Message("assistant", sentence(source, 9)))
            rows.append(Example(origin=Origin("s", number), messages=turns))
    found = parts(rows)
    assert found[::2] == found[1::2]
    assert len(set(found)) == 3


def test_given_rows_stay_and_their_twins_are_left_out() -> None:
    rows = strangers(200)
    held = [
        talk(f"{row.prompt_text()} please", row.answer_text(), n, file="test.jsonl") for n, row in enumerate(rows[:30])
    ]
    splits, dataset = divide([*rows, *held], fixed=[None] * 200 + ["test"] * 30)
    assert splits.indices("test").tolist() == list(range(200, 230))
    assert splits.left_out.tolist() == list(range(30))
    assert splits.twins.tolist() == list(range(200, 230))
    assert len(splits.indices("validation")) == pytest.approx(170 / 9, abs=1)
    assert splits.residual is not None
    assert splits.residual.max < 0.8
    assert dataset.origin(int(splits.twins[0])).file == "test.jsonl"


def test_validation_is_carved_from_rows_given_for_training() -> None:
    splits, _ = divide(strangers(120), fixed=["train"] * 100 + ["test"] * 20)
    assert [len(splits.indices(name)) for name in PARTS] == [89, 11, 20]
    splits, _ = divide(strangers(120), train=0.9, validation=0.0, test=0.1, fixed=["train"] * 100 + ["test"] * 20)
    assert [len(splits.indices(name)) for name in PARTS] == [100, 0, 20]


def test_rows_that_belong_with_given_training_rows_are_trained_on() -> None:
    rows = strangers(100)
    copies = [talk(row.prompt_text(), "another answer", n) for n, row in enumerate(rows[:10])]
    splits, _ = divide([*rows, *copies], fixed=["train"] * 10 + [None] * 100)
    assert (splits.part[:10] == 0).all()
    assert (splits.part[100:] == 0).all()


@pytest.mark.parametrize(
    ("roles", "said"), [(["train"], "nothing|no row is left for test"), (["test"], "no row is left to train on")]
)
def test_roles_that_leave_a_part_without_rows_are_refused(roles: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        divide(strangers(50), fixed=roles * 50)


def test_residual_is_the_best_match_of_held_out_rows() -> None:
    rows = strangers(60, length=10)
    splits, dataset = divide(rows)
    shingles = splits.clusters.shingles
    sets = [set(shingles.gather(np.array([n]))[1].tolist()) for n in range(60)]
    best = {
        held: max(len(sets[held] & sets[n]) / len(sets[held] | sets[n]) for n in splits.indices("train"))
        for held in (*splits.indices("validation"), *splits.indices("test"))
    }
    found = splits.residual
    assert found is not None
    assert found.max == pytest.approx(max(best.values()))
    assert found.median == pytest.approx(float(np.median(list(best.values()))))
    assert found.closest is not None
    assert best[found.closest[0]] == pytest.approx(found.max)
    assert not found.sampled
    assert "median" in str(found)
    assert len(dataset) == 60


def test_many_held_out_rows_are_sampled_and_said_to_be() -> None:
    splits, _ = divide(strangers(2000, length=6), train=0.4, validation=0.2, test=0.4)
    assert splits.residual is not None
    assert splits.residual.sampled
    assert splits.residual.rows == 900
    assert "a sample of 900 rows against 800" in str(splits.residual)


def test_memory_follows_the_number_of_rows_not_their_length() -> None:
    rows = [Text(origin=Origin("t", n), text=f"w{n} " + " ".join(f"{n}x{m}" for m in range(20_000))) for n in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.write(rows, Path(folder))
        rows.clear()
        tracemalloc.start()
        split(dataset, **SHARES, near_duplicates=0.8, seed=7)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 80_000_000
