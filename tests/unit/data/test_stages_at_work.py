"""What cleaning stages find of faults that were planted, and what they leave of texts that only look faulty."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sartor import registry
from sartor.data.cleaning import spool
from sartor.data.ledger import SUGGESTED, entries
from sartor.data.personal import Kind, finder
from sartor.data.rows import Example, Message, Origin, Row, Text
from sartor.errors import DataError
from sartor.recipe.schema import Component

WORDS = """
account address answer arrive balance branch cancel change charge contract customer deliver different document email
exchange expect expire explain failure holiday important information insurance language machine measure message minute
morning mountain notice number office office package payment people person picture please problem product question
receive reason receipt request return school second service shipment station station support system teacher telephone
ticket together tomorrow transfer travel understand weather website window without yesterday
""".split()  # noqa: SIM905


def example(line: int, prompt: str, answer: str, **more: Any) -> Example:
    return Example(
        origin=Origin("a.jsonl", line), messages=(Message("user", prompt), Message("assistant", answer)), **more
    )


def texts(*said: str) -> list[Row]:
    return [Text(origin=Origin("a.jsonl", line), text=text) for line, text in enumerate(said, 1)]


def labelled(*pairs: tuple[str, str]) -> list[Row]:
    return [example(line, text, label, label=label, stratum=label) for line, (text, label) in enumerate(pairs, 1)]


def clean(
    name: str, rows: Sequence[Row], folder: Path, roles: Mapping[int, int] | None = None, **options: Any
) -> dict[int, Row]:
    """The rows that stay, by line."""
    stage = Component(name=name, options=registry.component("stage", name).Options.model_validate(options))
    placed = [(row, (roles or {}).get(row.origin.line, -1)) for row in rows]
    dataset, _, _ = spool(placed, [stage], folder, lambda event: None)
    return {row.origin.line: row for row in dataset}


def sentence(draw: random.Random, words: int = 9) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def slip(draw: random.Random, word: str) -> str:
    """The word with one letter left out, doubled, changed, or swapped with the next."""
    at = draw.randrange(1, len(word) - 1)
    kind = draw.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    if kind == 2:
        return word[:at] + draw.choice(string.ascii_lowercase.replace(word[at], "")) + word[at + 1 :]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def test_mojibake_is_mended_and_right_text_is_left(tmp_path: Path) -> None:
    right = [
        "Zürich ist größer als Genève", "Où est l’hôtel près de la façade", "¿Dónde está el niño español?", "crème brûlée – 5 €",
        "naïve café “quoted”", "Привет, как дела сегодня", "smörgåsbord på svenska", "łódź i żółw", "São Paulo não é à toa", "Ελληνικά γράμματα",
    ]  # fmt: skip
    lost = {0x81, 0x8D, 0x8F, 0x90, 0x9D}
    """Bytes that Windows' table has no character for."""
    wrong = {text.encode().decode("latin-1"): text for text in right}
    wrong |= {text.encode().decode("cp1252"): text for text in right if not set(text.encode()) & lost}
    mended = [row.prompt_text() for row in clean("unicode", texts(*wrong), tmp_path / "wrong").values()]
    assert mended == list(wrong.values())
    assert len(wrong) >= 14
    left = [
        row.prompt_text()
        for row in clean("unicode", texts(*right, "Ã", "©", "the £ sign", "x² ≠ ½"), tmp_path / "right").values()
    ]
    assert left == [*right, "Ã", "©", "the £ sign", "x² ≠ ½"]


def test_invisible_characters_go_unless_the_script_needs_them(tmp_path: Path) -> None:
    meant = [
        "می‌خواهم", "क्‍ष", "👨‍👩‍👧", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "ภาษา\u200bไทย", "❤️",
        "שלום \u200fabc",
    ]  # fmt: skip
    hidden = [
        "a\u200bb",
        "a\u200db",
        "\ufeffab",
        "a\u2060b",
        "a\u00adb",
        "\u202eab\u202c",
        "a\U000e0041\U000e0042b",
        "a\x00b",
        "a\u2066b\u2069",
    ]
    kept = clean("unicode", texts(*meant, *hidden), tmp_path)
    assert [row.prompt_text() for row in kept.values()] == [*meant, *["ab"] * len(hidden)]


def test_copies_are_found_and_the_best_is_kept(tmp_path: Path) -> None:
    draw = random.Random(1)
    originals = [sentence(draw, 30) for _ in range(200)]
    copies = [" ".join(f"{w} " if i == 7 else w.upper() for i, w in enumerate(text.split())) for text in originals[:40]]
    near = [text.replace(text.split()[11], "moon", 1) for text in originals[40:80]]
    rows = texts(*originals, *copies, *near)
    for threshold, planted in ((1.0, 40), (0.8, 80)):
        kept = clean("duplicates", rows, tmp_path / str(threshold), similarity=threshold)
        assert len(rows) - len(kept) == planted
        pairs = [{n, 200 + n} for n in range(1, planted + 1)]
        assert all(len(pair & kept.keys()) == 1 for pair in pairs)


def test_what_the_user_gave_to_a_held_out_part_is_kept_first_then_the_complete_answer(tmp_path: Path) -> None:
    rows = [example(1, "What is it?", "A pear."), example(2, "what is it?", "a PEAR.")]
    assert list(clean("duplicates", rows, tmp_path / "a", {1: 0, 2: 2})) == [2]
    assert list(clean("duplicates", rows, tmp_path / "b", {1: 1, 2: 0})) == [1]
    long = sentence(random.Random(2), 40)
    rows = [example(1, long, "It is a pear and"), example(2, f"{long} now", "It is a pear.")]
    assert list(clean("duplicates", rows, tmp_path / "c", similarity=0.8)) == [2]


def test_rows_that_differ_in_label_verdict_or_system_turn_are_no_copies(tmp_path: Path) -> None:
    text = sentence(random.Random(3), 40)
    rows = labelled((text, "good"), (text, "bad"))
    assert len(clean("duplicates", rows, tmp_path / "a", similarity=0.5)) == 2
    turns = (Message("user", text), Message("assistant", "Yes."))
    rows = [
        Example(origin=Origin("a.jsonl", line), messages=(Message("system", said), *turns))
        for line, said in enumerate(("Be kind.", "Be rude."), 1)
    ]
    assert len(clean("duplicates", rows, tmp_path / "b", similarity=0.5)) == 2


def test_label_typos_are_found(tmp_path: Path) -> None:
    draw = random.Random(4)
    names = ["card_arrival", "refund_request", "exchange_rate", "lost_password", "cash_withdrawal"]
    pairs = [(sentence(draw), name) for name in names for _ in range(60)]
    wrong = [(sentence(draw), slip(draw, name)) for name in names for _ in range(4)]
    rows = labelled(*pairs, *wrong, (sentence(draw), "refund_status"), (sentence(draw), "exchange_rate_2"))
    kept = clean("labels", rows, tmp_path, repair=True)
    repaired = [kept[len(pairs) + at + 1].answer_text() for at in range(len(wrong))]
    right = [name for name in names for _ in range(4)]
    assert repaired == right
    assert [kept[len(rows) - 1].answer_text(), kept[len(rows)].answer_text()] == ["refund_status", "exchange_rate_2"]


def test_an_unknown_label_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'D183.*"neutrl", which no row has; did you mean "neutral"'):
        clean("labels", labelled(("a", "neutral"), ("b", "good")), tmp_path, drop=["neutrl"])


@pytest.mark.slow
def test_spelling_finds_most_slips_and_touches_few_right_words(tmp_path: Path) -> None:
    pytest.importorskip("symspellpy")
    draw = random.Random(5)
    long = [word for word in WORDS if len(word) >= 6]
    planted: list[tuple[str, str, str]] = []
    for _ in range(150):
        word = draw.choice(long)
        planted.append((sentence(draw, 4), slip(draw, word), word))
    rows = texts(*(f"{head} {wrong} {head}" for head, wrong, _ in planted))
    clean("spelling", rows, tmp_path / "a")
    told = {entry["line"]: entry["after"]["text"].split()[4] for entry in entries(tmp_path / "a" / SUGGESTED)}
    right = sum(told.get(line) == word for line, (_, _, word) in enumerate(planted, 1))
    assert right >= 0.8 * len(planted), f"recall {right / len(planted):.2f}"
    assert right >= 0.9 * len(told), f"precision {right / len(told):.2f}"
    sound = texts(
        "the neighbors organized a colorful jewelry theater", "our kubelet uses grpc via kubectl apply", "call sqrt(x) on foo_bar",
        "Ms Jonnes from Zermatt met NASSA in Gothemburg", "der schnelle braune fuchs springt", 'the key "paymnt" is in {"paymnt": 1}'[:30],
    )  # fmt: skip
    clean("spelling", sound[:5], tmp_path / "b")
    assert list(entries(tmp_path / "b" / SUGGESTED)) == []


def test_boilerplate_of_pages_goes_and_the_wording_of_prompts_stays(tmp_path: Path) -> None:
    draw = random.Random(6)
    pages = [
        f"{sentence(draw)}\nRead our story on page {'two' if n % 4 else 'three'}\n{sentence(draw)}" for n in range(60)
    ]
    kept = clean("boilerplate", texts(*pages), tmp_path / "a")
    assert all("Read our story" not in row.prompt_text() for row in kept.values())
    assert all(len(row.prompt_text().split("\n")) == 2 for row in kept.values())
    framed = [example(n, f"Classify the following ticket:\n{sentence(draw)}", "ok") for n in range(60)]
    assert list(clean("boilerplate", framed, tmp_path / "b").values()) == [
        replace(row, id=f"a.jsonl:{n}") for n, row in enumerate(framed)
    ]


def test_outliers_are_planted_lengths(tmp_path: Path) -> None:
    draw = random.Random(7)
    rows = [
        example(n, sentence(draw, draw.randrange(8, 16)), sentence(draw, draw.randrange(10, 25))) for n in range(300)
    ]
    odd = [
        example(300, sentence(draw), "x" * 20_000),
        example(301, sentence(draw, 3000), sentence(draw)),
        example(302, sentence(draw), "y"),
    ]
    kept = clean("outliers", [*rows, *odd], tmp_path)
    assert set(range(303)) - set(kept) == {300, 301, 302}


LANGUAGES = {
    "en": "The weather will be fine tomorrow, so we are going to the lake with our friends.",
    "de": "Das Wetter wird morgen schön, darum fahren wir mit unseren Freunden an den See.",
    "fr": "Il fera beau demain, nous irons donc au lac avec nos amis.",
    "es": "Mañana hará buen tiempo, así que iremos al lago con nuestros amigos.",
    "ru": "Завтра будет хорошая погода, поэтому мы поедем на озеро с друзьями.",
    "ja": "明日は天気が良いので、友達と一緒に湖へ行くつもりです。とても楽しみです。",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_are_told_apart(language: str, tmp_path: Path) -> None:
    rows = texts(*LANGUAGES.values(), "OK!", "12345 67890", "`def f(x): return x`")
    kept = clean("language", rows, tmp_path, keep=[language])
    assert sorted(kept) == [1 + list(LANGUAGES).index(language), 7, 8, 9]


ALL: tuple[Kind, ...] = ("email", "phone", "iban", "card", "ip", "url", "ssn", "key")
PLANTED: list[tuple[Kind, str]] = [
    *(("email", each) for each in ("bob@example.com", "a.b-c+d@mail.example.co.uk", "X_1@EXAMPLE.ORG")),
    *(
        ("phone", each)
        for each in ("+41 44 668 18 00", "+49 30 901820", "(415) 555-2671", "415-555-2671", "+44 20 7946 0958")
    ),
    *(
        ("iban", each)
        for each in ("CH93 0076 2011 6238 5295 7", "DE89370400440532013000", "GB82 WEST 1234 5698 7654 32")
    ),
    *(("card", each) for each in ("4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "6011111111111117")),
    *(("ip", each) for each in ("8.8.8.8", "2001:4860:4860::8888")),
    *(
        ("url", each)
        for each in ("https://example.org/a?b=c#d", "www.example.org/x", "http://en.wikipedia.org/wiki/Pear_(fruit)")
    ),
    *(("ssn", each) for each in ("536-90-4399", "756.9217.0769.85", "RCCMNL83S18D969H")),
    *(("key", each) for each in ("AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1" * 18, "sk-ant-" + "x" * 24)),
]
"""Values as they are published for tests by those who give them out."""
INNOCENT = [
    "version 1.2.3.4 of the tool", "section 4.2.1.3 says", "at 12:30:45 on 2024-01-15", "order 4111111111111112", "IBAN DE00 1234 5678 9012 3456 78",
    "ISBN 978-3-16-148410-0", "it costs 1,234,567.89", "pi is 3.14159265358979", "user@localhost", "@bob said hi", "a@b", "000-12-3456", "666-12-3456",
    "call 555 or 911", "10.0.0.1 and 192.168.1.1 and 127.0.0.1", "the years 1914-1918 and 1939-1945", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "uuid 123e4567-e89b-12d3-a456-426614174000", "[EMAIL_3f9a2c]", "std::vector<int>", "std::cout", "2 + 2 = 4", "room 12-34-56", "sk-learn and hf_hub",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), PLANTED)
def test_personal_data_is_found_whole(kind: Kind, value: str) -> None:
    find = finder(ALL, ("US",))
    for text in (f"Please use {value}, thanks.", value, f"({value})", f"a {value}\nb"):
        assert [(found.kind, text[found.begin : found.end]) for found in find(text)] == [(kind, value)], text


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert finder(ALL, ("US",))(text) == []
