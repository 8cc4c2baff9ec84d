"""What every way to augment promises; a new way is covered by this file the moment it exists, and needs an entry in CASES."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor import registry
from sartor.data.augmentation import Making, augment
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.making import Means
from sartor.data.rows import Example, Judged, Message, Origin, Preference, Row, Text
from sartor.data.split import Splits, undivided
from sartor.errors import DataError
from sartor.options import Options
from sartor.protocols import MASK, Speaker
from sartor.recipe.schema import Component
from sartor.recipe.shape import knobs

NAMES = registry.names("augmentation")
ANSWER = Message("assistant", "It is on its way.")


def asked(*texts: str, answer: str = "It is on its way.", label: str | None = None) -> list[Row]:
    """One question each."""
    said = Message("assistant", answer)
    return [
        Example(origin=Origin("a.jsonl", line), id=f"row-{line}", messages=(Message("user", text), said), label=label)
        for line, text in enumerate(texts, 1)
    ]


LETTERS = asked(
    "My sister said she often needs help because the big parcel did not arrive quickly enough for her.",
    "Please explain how the customer can obtain a refund when the order number 4711 is missing from the list.",
    "I think the movie was terrible, although the beginning was funny and the actress did her job very well.",
    "Mary asked her brother at Acme Corp to fix the broken car, because the shop at https://acme.example is closed.",
)


class Parrot:
    """Answers like a model of each kind; whatever is asked differently is answered differently."""

    def __call__(self, speaker: Speaker) -> Parrot:
        self.speaker = speaker
        return self

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        for place, prompt in reversed(list(enumerate(prompts))):
            self.tokens, self.seed = max_new_tokens, seed
            yield place, self.answer(prompt, temperature)

    def answer(self, prompt: str, temperature: float) -> str:
        drawn = random.Random(f"{prompt} {temperature} {self.speaker} {self.tokens} {self.seed}").randrange(10**6)
        words = " ".join("tvxz"[int(digit) % 4] + "aeiou"[int(digit) % 5] for digit in str(drawn))
        if self.speaker.task == "fill":
            assert prompt.count(MASK) == 1
            return "zebra\nlantern\nwindow"
        if "JSON" in prompt:
            return "\n".join(
                json.dumps(
                    {
                        key: "paid" if key == "label" else f"The {key} can {words} a {thing}."
                        for key in ("prompt", "answer", "text", "label")
                        if f'"{key}"' in prompt
                    }
                )
                for thing in ("lantern", "kettle", "violin")
            )
        return f"Well, {words.replace(' ', '')}: " + prompt.splitlines()[-1].replace(" the ", " that ")


def options(name: str, given: Mapping[str, Any]) -> Component:
    """A way with its options."""
    needed = {"model": "parrot"} if "model" in registry.component("augmentation", name).Options.model_fields else {}
    kind = registry.component("augmentation", name).Options
    return Component(name=name, options=kind.model_validate({**needed, **given}))


def run(
    name: str, given: Mapping[str, Any], rows: Sequence[Row], folder: Path, *, seed: int = 1, held: int = 0
) -> tuple[dict[str, Row], Making, Dataset, Splits, Findings]:
    """The rows that were made by their ids, with all there is to know; the last `held` rows are for validation."""
    dataset = Dataset.write(rows, folder / "rows")
    splits = undivided(dataset, 0.8)
    if held:
        splits = replace(splits, part=np.array([0] * (len(rows) - held) + [1] * held, np.int8))
    findings = Findings()
    whole, parts, (making,) = augment(
        dataset,
        splits,
        [options(name, given)],
        replayed=np.zeros(len(rows), np.bool_),
        near_duplicates=0.8,
        findings=findings,
        folder=folder,
        answers=folder,
        root=folder,
        means=Means(seed, Parrot()),
        emit=lambda event: None,
    )
    return {str(row.id): row for row in list(whole)[len(rows) :]}, making, whole, parts, findings


def told(rows: Mapping[str, Row]) -> list[str]:
    """Prompts and answers."""
    return sorted(f"{row.prompt_text()}\n{row.answer_text()}" for row in rows.values())


KNOBS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], list[Row]]] = {
    "synonyms.rate": ({}, {"rate": 0.9}, LETTERS),
    "synonyms.copies": ({}, {"copies": 3}, LETTERS),
    "synonyms.protect": ({"rate": 1.0}, {"rate": 1.0, "protect": ["often|big|parcel"]}, LETTERS[:1]),
    "synonyms.answer_words": ({}, {"answer_words": True}, asked("A big dog.", answer="The dog is big.")),
    "synonyms.wordnet": ({}, {"wordnet": "words.jsonl"}, LETTERS),
    "synonyms.meanings": (
        {"wordnet": "words.jsonl"},
        {"wordnet": "words.jsonl", "meanings": 2},
        asked("The bank of the lake."),
    ),
    "random_edit.rate": ({}, {"rate": 0.9}, LETTERS),
    "random_edit.copies": ({}, {"copies": 3}, LETTERS),
    "random_edit.protect": ({}, {"protect": ["[a-z]+"]}, LETTERS[:1]),
    "random_edit.answer_words": (
        {},
        {"answer_words": True},
        asked("Big brown dog on sofa", answer="Dog: big, brown, on sofa."),
    ),
    "random_edit.kinds": ({"kinds": ["swap"]}, {"kinds": ["delete"]}, LETTERS),
    "keyboard.rate": ({}, {"rate": 0.9}, LETTERS),
    "keyboard.copies": ({}, {"copies": 3}, LETTERS),
    "keyboard.protect": ({}, {"protect": ["[a-z]+"]}, LETTERS[:1]),
    "keyboard.answer_words": ({}, {"answer_words": True}, asked("Clever horses.", answer="They are clever horses.")),
    "keyboard.layout": ({"slips": ["neighbour"]}, {"slips": ["neighbour"], "layout": "azerty"}, LETTERS),
    "keyboard.slips": ({"slips": ["drop"]}, {"slips": ["double"]}, LETTERS),
    "back_translate.model": ({}, {"model": "owl"}, LETTERS),
    "back_translate.endpoint": ({}, {"endpoint": "http://127.0.0.1:1/v1"}, LETTERS),
    "back_translate.key": ({}, {"key": "A_KEY"}, LETTERS),
    "back_translate.temperature": ({}, {"temperature": 0.1}, LETTERS),
    "back_translate.max_new_tokens": ({}, {"max_new_tokens": 9}, LETTERS),
    "back_translate.protect": ({}, {"protect": [" the "]}, LETTERS),
    "back_translate.answer_words": ({}, {"answer_words": True}, asked("So the dog is big.", answer="The dog is big.")),
    "back_translate.back": ({}, {"back": "home"}, LETTERS),
    "back_translate.through": ({}, {"through": "Dutch"}, LETTERS),
    "back_translate.language": ({}, {"language": "Dutch"}, LETTERS),
    "back_translate.copies": ({}, {"copies": 2}, LETTERS),
    **{
        f"paraphrase.{option}": ({"by": "chat"}, {"by": "chat", option: value}, LETTERS)
        for option, value in {
            "model": "owl",
            "endpoint": "http://127.0.0.1:1/v1",
            "key": "A_KEY",
            "temperature": 0.1,
            "max_new_tokens": 9,
            "protect": [" the "],
        }.items()
    },
    "paraphrase.answer_words": ({}, {"answer_words": True}, asked("Big dog.", answer="The dog is big.")),
    "paraphrase.by": ({}, {"by": "chat"}, LETTERS),
    "paraphrase.rate": ({}, {"rate": 0.9}, LETTERS),
    "paraphrase.choices": ({"rate": 1.0, "choices": 1}, {"rate": 1.0, "choices": 3}, LETTERS),
    "paraphrase.copies": ({}, {"copies": 3}, LETTERS),
    **{
        f"write.{option}": ({}, {option: value}, LETTERS)
        for option, value in {
            "model": "owl",
            "endpoint": "http://127.0.0.1:1/v1",
            "key": "A_KEY",
            "temperature": 0.1,
            "max_new_tokens": 9,
            "count": 2,
            "shown": 2,
            "each": 2,
            "about": "Questions about things.",
            "alike": 0.99,
        }.items()
    },
    "counterfactual.attribute": ({}, {"attribute": "religion"}, asked("She goes to the mosque.")),
    "counterfactual.language": ({"terms": "own.yaml"}, {"terms": "own.yaml", "language": "xx"}, asked("mulder she")),
    "counterfactual.terms": ({}, {"terms": "own-en.yaml"}, asked("A mulder she knows.")),
    "counterfactual.answers": ({}, {"answers": True}, asked("Who is she?", answer="She is my sister.")),
}
"""Option -> (options without it, options with it, rows that come out differently)."""

CASES: dict[str, list[tuple[Mapping[str, Any], list[Row], list[str]]]] = {
    "synonyms": [
        ({}, asked("A movie on the sofa."), ["A film on the sofa.", "A movie on the couch."]),
        ({"rate": 1.0}, asked('Not "movie" or {sofa}: a movie.'), ['Not "movie" or {sofa}: a film.']),
        ({}, asked("An error is a big mistake."), ["An error is a large mistake.", "An error is a big error."]),
    ],
    "random_edit": [
        ({"kinds": ["swap"]}, asked("green apples"), ["apples green"]),
        ({"kinds": ["delete"], "rate": 0.3}, asked("not green, 12 nice apples"), ["12", "not"]),
        ({"kinds": ["insert"]}, asked("My sofa 12"), ["couch"]),
    ],
    "keyboard": [
        ({"slips": ["swap"]}, asked("the test"), ["the tset"]),
        (
            {"slips": ["drop"]},
            asked("https://abcdef.example card"),
            ["https://abcdef.example crd", "https://abcdef.example cad"],
        ),
    ],
    "back_translate": [
        ({}, asked("Where is the key?"), ["Where is that key?"]),
        ({"back": "home"}, asked("Where is the key?"), ["Well, "]),
    ],
    "paraphrase": [
        ({"choices": 1}, asked("12 cats"), ["12 zebra"]),
        ({"by": "chat"}, asked("Where is the key?"), ["Where is that key?"]),
    ],
    "write": [
        ({}, LETTERS, ["lantern", "violin"]),
        ({"count": 1}, asked("Where?", answer="here", label="here"), []),
    ],
    "counterfactual": [
        ({}, asked("She gave Mary her card; it is hers."), ["He gave James his card; it is his."]),
        ({}, asked("his mother told him so"), ["her father told her so"]),
        ({"attribute": "age"}, asked("Old people in 12 lines"), ["Young people in 12 lines"]),
    ],
}
"""Way -> (options, rows, what one of the made prompts is or contains)."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with the files that probes name."""
    words = [
        {"lemma": "parcel", "pos": "n", "synonyms": ["package"]},
        {"lemma": "bank", "pos": "n", "synonyms": ["shore"]},
        {"lemma": "bank", "pos": "v", "synonyms": ["deposit"]},
    ]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(word) + "\n" for word in words))
    own = "attribute: gender\nlanguage: {}\ngroups: [a, b]\nterms: [[mulder, scully]]\n"
    (tmp_path / "own.yaml").write_text(own.format("xx"))
    (tmp_path / "own-en.yaml").write_text(own.format("en"))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_shape_of_the_module(name: str) -> None:
    module = registry.component("augmentation", name)
    assert issubclass(module.Options, Options)
    assert callable(module.make)
    assert f"augment: [{name}]" in module.__doc__ or f"augment: [{{{name}: " in module.__doc__, "it shows how"


def test_every_way_has_a_case() -> None:
    assert set(CASES) == set(NAMES)


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in CASES for number in range(len(CASES[name]))])
def test_rows_come_out_as_expected(name: str, number: int, folder: Path) -> None:
    given, rows, expected = CASES[name][number]
    seen = [row.prompt_text() for seed in range(12) for row in run(name, given, rows, folder, seed=seed)[0].values()]
    assert seen or not expected
    for wanted in expected:
        assert any(wanted == text or wanted in text for text in seen), seen


def test_every_option_has_a_probe() -> None:
    wanted = {key.removeprefix("data.augment[].") for key in knobs() if key.startswith("data.augment[].")}
    assert set(KNOBS) == wanted


@pytest.mark.parametrize("key", KNOBS)
def test_an_option_acts(key: str, folder: Path) -> None:
    plain, changed, rows = KNOBS[key]
    assert told(run(key.partition(".")[0], plain, rows, folder)[0]) != told(
        run(key.partition(".")[0], changed, rows, folder)[0]
    )


def every_kind() -> list[Row]:
    """Rows of every kind about the same things."""
    rows: list[Row] = []
    for row in LETTERS:
        turn = Message("user", row.prompt_text())
        for one in (
            Example(origin=row.origin, messages=(Message("system", "Your sofa is big."), turn, ANSWER), group="g"),
            Example(origin=row.origin, messages=(turn, Message("assistant", "paid")), label="paid", stratum="paid"),
            Text(origin=row.origin, text=f"One day: {row.prompt_text()}"),
            Preference(origin=row.origin, prompt=(turn,), chosen=(ANSWER,), rejected=(Message("assistant", "No."),)),
            Judged(origin=row.origin, prompt=(turn,), completion=(ANSWER,), liked=True),
        ):
            rows.append(replace(one, origin=Origin("a.jsonl", len(rows) + 1), id=f"row-{len(rows) + 1}"))
    return rows


@pytest.mark.parametrize("kind", ["example", "labelled", "text", "preference", "judged"])
@pytest.mark.parametrize("name", NAMES)
def test_made_rows_have_a_parent_and_leave_answers_alone(name: str, kind: str, folder: Path) -> None:
    number = ["example", "labelled", "text", "preference", "judged"].index(kind)
    rows = every_kind()[number::5]
    if name == "write" and kind in ("preference", "judged"):
        with pytest.raises(DataError, match="D199"):
            run(name, {}, rows, folder)
        return
    made, making, whole, parts, findings = run(name, {}, rows, folder)
    assert len(whole) == len(rows) + len(made) == len(parts.part) == len(parts.clusters.of)
    assert making.made == len(made)
    assert len(list(findings.dropped)) == sum(making.dropped.values())
    parents = {str(row.id): row for row in rows}
    at = {identity: place for place, identity in enumerate(whole.identities())}
    for identity, row in made.items():
        parent = parents[str(row.parent)]
        assert identity.startswith(f"{parent.id}~{name}-")
        assert (row.kind, row.group, row.origin) == (parent.kind, parent.group, parent.origin)
        assert row.prompt_text() != parent.prompt_text() or row.answer_text() != parent.answer_text()
        assert parts.part[at[identity]] == 0
        assert parts.clusters.of[at[identity]] == parts.clusters.of[at[str(parent.id)]]
        if name != "write":
            assert row.answer_text() == parent.answer_text()
            assert getattr(row, "label", None) == getattr(parent, "label", None)
            assert row.stratum == parent.stratum
            for whole_text in ("4711", "https://acme.example", "Acme Corp"):
                assert (whole_text in row.prompt_text()) == (whole_text in parent.prompt_text())
    assert made, "every way makes something of these rows"


@pytest.mark.parametrize("name", NAMES)
def test_neither_order_nor_other_rows_matter_but_the_seed_does(name: str, folder: Path) -> None:
    rows = LETTERS
    shuffled = random.Random(3).sample(rows, len(rows))
    one, two = run(name, {}, rows, folder)[0], run(name, {}, shuffled, folder)[0]
    alone = run(name, {}, rows[:1], folder)[0]
    assert told(one) == told(two)
    if name != "write":
        assert set(told(alone)) <= set(told(one))
    if name not in ("counterfactual", "write", "back_translate"):
        others = [told(run(name, {}, rows, folder, seed=seed)[0]) for seed in (2, 3, 4)]
        assert any(told(one) != other for other in others)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "write"])
def test_what_comes_close_to_a_held_out_row_is_left_out(name: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        made = next(iter(run(name, {}, LETTERS[:1], Path(place))[0].values()))
    twin = replace(made, id="held", parent=None, origin=Origin("b.jsonl", 1), messages=(*made.messages[:1], ANSWER))
    near = replace(twin, messages=(Message("user", made.prompt_text() + " Thanks!"), ANSWER))
    for held, reason in ((twin, "it equals another row"), (near, "it comes close to a held-out row")):
        got, making, _, _, findings = run(name, {}, [*LETTERS[:1], held], folder, held=1)
        assert not got
        assert making.dropped == {reason: 1}
        assert [(drop.rule, drop.reason) for drop in findings.dropped] == [(f"augment.{name}", reason)]


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_say_nothing_make_nothing(name: str, folder: Path) -> None:
    if name == "write":
        pytest.skip("it writes new rows, whatever its seeds say")
    rows = asked('{"a": 1}', "12 34", "https://a.example")
    assert not run(name, {}, rows, folder)[0]
