"""Protected spans, the table of words, lists of groups, answers that are kept."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.data import terms
from sartor.data.answers import FILE, Answers, NotAsked
from sartor.data.augment.keyboard import neighbours
from sartor.data.augment.write import NOT_AS_SHOWN, NOT_JSON, OTHER_KEYS, UNKNOWN_LABEL, _row, rouge_l
from sartor.data.making import Seeded
from sartor.data.protected import Guard, like, replaced
from sartor.data.rows import Example, Message, Origin
from sartor.data.thesaurus import alternatives, own, wordnet
from sartor.errors import DataError
from sartor.protocols import Speaker


def free(text: str, *patterns: str) -> list[str]:
    return [text[begin:end] for begin, end in Guard(patterns).free(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Call 0800 123 or mail bob@a.example now", ["Call", "or", "mail", "now"]),
        ("See https://a.example/x?y=z today", ["See", "today"]),
        ("Dear {name}, {{ order }} is ready", ["Dear", "is", "ready"]),
        ("Order AB-12 was sent", ["Order", "was", "sent"]),
        ('He said "leave me alone" twice', ["He", "said", "twice"]),
        ("Run `make check` first", ["Run", "first"]),
        ("My friend Anna lives in New York. She likes it", ["My", "friend", "lives", "in", "She", "likes", "it"]),
        ("I was at NASA when I met Dr Who", ["I", "was", "at", "when", "I", "met"]),
        ("It does not work and never did", ["It", "does", "work", "and", "did"]),
        ("don't stop, it's fine", ["stop", "it's", "fine"]),
        ('{"text": "a word"}', []),
        ("<b>bold</b> text", ["bold", "text"]),
        ("a snake_case name, a path/to it", ["a", "name", "a", "it"]),
        ("Über die Brücke", ["Über", "die"]),
    ],
)
def test_what_may_be_changed(text: str, words: list[str]) -> None:
    assert free(text) == words


def test_patterns_of_the_user_protect() -> None:
    assert free("the tracking code", r"track\w*") == ["the", "code"]


@given(st.text(max_size=80))
def test_free_words_are_words_and_never_overlap_what_is_protected(text: str) -> None:
    guard = Guard()
    spans, last = guard.spans(text), 0
    for begin, end in guard.free(text):
        assert last <= begin < end
        assert not any(begin < stop and start < end for start, stop in spans)
        last = end
    assert replaced(text, {}) == text


def test_case_is_kept() -> None:
    assert [like(model, "couch") for model in ("sofa", "Sofa", "SOFA", "I")] == ["couch", "Couch", "COUCH", "Couch"]


def test_forms_go_together() -> None:
    known = alternatives(
        [
            ("v", ["buy/buys/bought/bought/buying", "purchase"]),
            ("n", ["child/children", "kid"]),
            ("a", ["kid", "small"]),
        ]
    )
    assert known["bought"] == ("purchased",)
    assert known["purchasing"] == ("buying",)
    assert known["children"] == ("kids",)
    assert "kid" not in known, "two meanings"
    get = alternatives([("v", ["get/gets/got/gotten/getting", "put/puts/put/put/putting"])])
    assert "put" not in get, "present, past and participle of the other differ"


def test_the_table_is_sound() -> None:
    known = own()
    assert len(known) > 800
    assert all(word == word.lower() and others and word not in others for word, others in known.items())


def test_wordnet_is_read_as_it_is(tmp_path: Path) -> None:
    head = "  1 This software and database is being provided to you\n"
    noun = "02958343 06 n 05 car 0 auto 0 automobile 0 machine 2 motorcar 0 001 @ 03791235 n 0000 | a motor vehicle\n"
    other = "03699975 06 n 01 machine 0 001 @ 03575240 n 0000 | a device\n"
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text(head + (noun + other if part == "noun" else ""))
    known = wordnet(tmp_path, 1)
    assert known["car"] == ("auto", "automobile", "machine", "motorcar")
    assert "machine" not in known
    assert "machine" in wordnet(tmp_path, 2)
    with pytest.raises(DataError, match="D197"):
        wordnet(tmp_path / "nowhere", 1)
    (tmp_path / "bad.jsonl").write_text('{"word": 1}\n')
    with pytest.raises(DataError, match="D197"):
        wordnet(tmp_path / "bad.jsonl", 1)


def gender() -> terms.Terms:
    return next(each for each in terms.own(["en"]) if each.attribute == "gender")


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("She lost her card.", "He lost his card."),
        ("I saw her yesterday and gave her it.", "I saw him yesterday and gave him it."),
        ("His is better than hers", "Hers is better than his"),
        ("HE said: mother", "SHE said: father"),
        ("Mary's brother", "James's sister"),
        ("The chairman sheds a shell", "The chairwoman sheds a shell"),
    ],
)
def test_groups_change_places(text: str, other: str) -> None:
    assert gender().swapped(text, 0, 1) == other


def test_a_word_without_counterpart_is_no_swap() -> None:
    religion = next(each for each in terms.own() if each.attribute == "religion")
    assert religion.swapped("A Jew and a Muslim", 1, 2) is None
    assert religion.swapped("A Muslim at the mosque", 1, 2) == "A Jewish at the synagogue"


def test_our_lists_are_sound() -> None:
    lists = terms.own()
    assert {each.attribute for each in lists} == {"gender", "origin", "religion", "age", "ability", "orientation"}
    for each in lists:
        for concept in (*each.terms, *each.names):
            for group, word in enumerate(concept):
                if word is not None and sum(word in other for other in each.terms) == 1:
                    assert each.mentions(f"say {word} twice") == {group}, word


@pytest.mark.parametrize(
    "body",
    ["", "[1]", "attribute: a", "attribute: a\nlanguage: en\ngroups: [x]\nterms: []",
     "attribute: a\nlanguage: en\ngroups: [x, y]\nterms: [[a]]", "attribute: a\nlanguage: en\ngroups: [x, y]\nterms: [[a, b]]\nmore: 1",
     "a: [", "attribute: a\nlanguage: en\ngroups: [x, y]\nterms: [[a, b]]\nswap: maybe"],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(body: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(body)
    with pytest.raises(DataError, match="D198"):
        terms.read(tmp_path / "own.yaml")


def test_a_list_of_the_user_replaces_ours(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("attribute: gender\nlanguage: en\ngroups: [x, y]\nterms: [[a, b]]\n")
    lists = terms.known(["own.yaml"], tmp_path)
    assert [each.groups for each in lists if (each.attribute, each.language) == ("gender", "en")] == [("x", "y")]
    assert len(lists) == len(terms.own())


class Counting:
    """Counts what it is asked."""

    def __init__(self, most: int = 99) -> None:
        self.asked: list[str] = []
        self.most = most

    def __call__(self, speaker: Speaker) -> Counting:
        return self

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        for place, prompt in enumerate(prompts):
            if len(self.asked) >= self.most:
                raise KeyboardInterrupt
            self.asked.append(prompt)
            yield place, prompt[::-1]


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    model, speaker = Counting(most=2), Speaker("m")
    with pytest.raises(KeyboardInterrupt):
        Answers(tmp_path, tmp_path, model).ask(speaker, ["ab", "cd", "ab", "ef"], max_new_tokens=3)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"key": "cut off')
    model.most = 99
    again = Answers(tmp_path, tmp_path, model)
    assert again.ask(speaker, ["ab", "cd", "ab", "ef"], max_new_tokens=3) == ["ba", "dc", "ba", "fe"]
    assert model.asked == ["ab", "cd", "ef"]
    kept = Answers(tmp_path, tmp_path, None)
    assert kept.ask(speaker, ["cd", "ef"], max_new_tokens=3) == ["dc", "fe"]
    with pytest.raises(NotAsked):
        kept.ask(speaker, ["cd"], max_new_tokens=4)
    with pytest.raises(NotAsked):
        kept.ask(Speaker("other"), ["cd"], max_new_tokens=3)


def test_another_model_under_the_same_path_is_asked_anew(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    Answers(tmp_path, tmp_path, Counting()).ask(Speaker("m"), ["ab"], max_new_tokens=3)
    (tmp_path / "m" / "config.json").write_text('{"a": 1}')
    with pytest.raises(NotAsked):
        Answers(tmp_path, tmp_path, None).ask(Speaker("m"), ["ab"], max_new_tokens=3)


def test_rouge_l_is_that_of_the_reference() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer, stream = RougeScorer(["rougeL"]), random.Random(1)
    for _ in range(40):
        one, other = ([stream.choice("abcdef") * 2 for _ in range(stream.randrange(1, 20))] for _ in range(2))
        wanted = scorer.score(" ".join(one), " ".join(other))["rougeL"].fmeasure
        assert rouge_l(one, other) == pytest.approx(wanted)


def test_keys_lie_side_by_side() -> None:
    near = neighbours("qwerty")
    assert set(near["g"]) == set("tyfhvb")
    assert all(key in near[other] for key, others in near.items() for other in others)
    assert json.dumps(neighbours("qwertz")["z"]) != json.dumps(near["z"])


def seeds(answer: str, label: str | None = None) -> list[Seeded]:
    turns = (Message("system", "Be brief."), Message("user", "Where is it?"), Message("assistant", label or answer))
    return [Seeded(Example(origin=Origin("a", 1), messages=turns, label=label, stratum=label), random.Random(1), 0)]


@pytest.mark.parametrize(
    ("line", "shown", "label", "fault"),
    [
        ('{"prompt": "a b", "answer": "c"}', "d", None, None),
        ("1. A question", "d", None, NOT_JSON),
        ('["prompt"]', "d", None, NOT_JSON),
        ('{"prompt": "a b"}', "d", None, OTHER_KEYS),
        ('{"prompt": "a b", "answer": "c", "more": "d"}', "d", None, OTHER_KEYS),
        ('{"prompt": "a b", "answer": 3}', "d", None, OTHER_KEYS),
        ('{"prompt": " ", "answer": "c"}', "d", None, OTHER_KEYS),
        ('{"text": "a b", "label": "paid"}', "", "paid", None),
        ('{"text": "a b", "label": "Paid!"}', "", "paid", UNKNOWN_LABEL),
        ('{"prompt": "a b", "answer": "{\\"k\\": 2}"}', '{"k": 1}', None, None),
        ('{"prompt": "a b", "answer": "{\\"j\\": 2}"}', '{"k": 1}', None, NOT_AS_SHOWN),
        ('{"prompt": "a b", "answer": "no JSON"}', '{"k": 1}', None, NOT_AS_SHOWN),
    ],
)
def test_what_a_model_writes_is_read_strictly(line: str, shown: str, label: str | None, fault: str | None) -> None:
    row = _row(line, seeds(shown, label), ["paid", "open"])
    if fault is not None:
        assert row == fault
        return
    assert isinstance(row, Example)
    assert [turn.role for turn in row.messages] == ["system", "user", "assistant"]
    assert (row.messages[0].content, row.messages[1].content) == ("Be brief.", "a b")
    assert row.label == row.stratum == label
