"""The demo data is what its script writes, says what its README says, and holds no near copies."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from sartor import embedded
from sartor.errors import DataError, ModelError

SCRIPT = Path(__file__).parents[3] / "scripts/make_demo_data.py"


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [json.loads(line) for line in embedded.demo_data().read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_has_the_same_strict_shape(rows: list[dict]) -> None:
    assert len({row["id"] for row in rows}) == len(rows) == 800
    for row in rows:
        assert set(row) == {"id", "prompt", "completion", "channel"}
        record = json.loads(row["completion"])
        assert list(record) == ["intent", "product", "urgent", "contact"]
        assert row["completion"] == json.dumps(record, separators=(",", ":"))
        assert isinstance(record["urgent"], bool)
        assert record["contact"] in {"call", "mail", "any"}
        assert len(row["prompt"].split()) <= 60


def test_intents_are_in_equal_shares(rows: list[dict]) -> None:
    shares = Counter(json.loads(row["completion"])["intent"] for row in rows)
    assert len(shares) == 10
    assert set(shares.values()) == {80}


def test_product_can_be_read_off_the_message(rows: list[dict], script: ModuleType) -> None:
    for row in rows:
        product = json.loads(row["completion"])["product"]
        text = row["prompt"].lower()
        named = {name for name, surfaces in script.PRODUCTS.items() if any(f" {s}" in f" {text}" for s in surfaces)}
        assert product == "none" or product in named, row


def test_hurry_and_contact_can_be_read_off_mail_and_web_messages(rows: list[dict], script: ModuleType) -> None:
    def says(text: str, phrases: tuple[str, ...]) -> bool:
        heads = [phrase.split("{")[0].rstrip(".!, ").lower() for phrase in phrases]
        return any(head in text.lower() for head in heads)

    for row in rows:
        if row["channel"] == "chat":
            continue
        record = json.loads(row["completion"])
        assert record["urgent"] == says(row["prompt"], script.HURRY), row
        assert (record["contact"] == "call") == says(row["prompt"], script.CALL), row
        assert (record["contact"] == "mail") == says(row["prompt"], script.MAIL), row


def test_no_two_messages_are_near_copies(rows: list[dict]) -> None:
    def shingles(text: str) -> set[tuple[str, str]]:
        return set(itertools.pairwise(text.lower().split()))

    sets = [shingles(row["prompt"] + " " + row["completion"]) for row in rows]
    alike = [len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2)]
    assert max(alike) < 0.6


def test_the_script_writes_the_shipped_file(script: ModuleType) -> None:
    assert [json.loads(line) for line in embedded.demo_data().read_text(encoding="utf-8").splitlines()] == script.rows()


def test_unknown_builtin_data_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r'D113: there is no built-in data "dmeo"\. Fix: one of builtin:demo'):
        embedded.builtin("dmeo")


def test_missing_nano_weights_are_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "HERE", tmp_path)
    with pytest.raises(ModelError, match="M104: the weights of sartor/nano"):
        embedded.nano()
    (tmp_path / "nano").mkdir()
    (tmp_path / "nano/model.safetensors").touch()
    assert embedded.nano() == tmp_path / "nano"


def test_the_general_set_and_its_probe_share_no_question() -> None:
    asked = []
    for name, fields in (("general", set()), ("general-probe", {"wrong", "kind"})):
        rows = [json.loads(line) for line in embedded.builtin(name).read_text(encoding="utf-8").splitlines()]
        assert all(row.keys() == {"prompt", "completion"} | fields and row["completion"].strip() for row in rows)
        asked.append({row["prompt"] for row in rows})
        assert len(asked[-1]) == len(rows) >= 300
    assert not asked[0] & asked[1]


def test_the_probe_has_one_right_answer_to_each_question_and_is_what_its_script_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [json.loads(line) for line in embedded.builtin("general-probe").read_text(encoding="utf-8").splitlines()]
    assert all(row["wrong"] and row["completion"] not in row["wrong"] for row in rows)
    assert all(len(set(row["wrong"])) == len(row["wrong"]) for row in rows)
    assert min(Counter(row["kind"] for row in rows).values()) >= 30
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    probe = importlib.import_module("make_probe")
    made = [
        {"prompt": q.prompt, "completion": q.right, "wrong": list(q.wrong), "kind": q.kind} for q in probe.questions()
    ]
    assert rows == made
