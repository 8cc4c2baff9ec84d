from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sartor.errors import SartorError
from sartor.store import fingerprint as prints
from sartor.store.fingerprint import Fingerprint, compare

RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "tickets",
    "seed": 17,
    "goal": {"statement": "one thing", "success": [{"metric": "f1", "at_least": 0.5}]},
    "data": {"sources": [{"path": "a.jsonl"}], "max_line_mb": 4.0},
    "method": {"name": "lora", "options": {"rank": 16}},
    "train": {
        "epochs": 3.0,
        "batch": {"examples": 8},
        "optimizer": {"name": "adamw", "options": {"learning_rate": 1e-4}},
        "checkpoint": {"every": 10, "keep": 1},
        "micro_batch_tokens": 512,
    },
}


class Inputs:
    """Everything a fingerprint is taken of, on disk and changeable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe = json.loads(json.dumps(RECIPE))
        self.template: str | None = "{{ messages }}"
        self.dtype, self.threads = "float32", 2
        self.versions: dict[str, str | None] = {"torch": "2.13.0"}
        for name in ("a.jsonl", "model.safetensors", "config.json", "tokenizer.json"):
            (root / name).write_text(f"content of {name}\nand a second line\n")

    def take(self) -> Fingerprint:
        return prints.take(
            recipe=self.recipe,
            data={"a.jsonl": self.root / "a.jsonl"},
            base=self.root,
            template=self.template,
            tokenizer=[self.root / "tokenizer.json"],
            dtype=self.dtype,
            threads=self.threads,
            versions=self.versions,
            processor="a CPU",
        )


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return Inputs(tmp_path)


def file(name: str, change: Callable[[bytes], bytes]) -> Callable[[Inputs], None]:
    def act(inputs: Inputs) -> None:
        path = inputs.root / name
        path.write_bytes(change(path.read_bytes()))

    return act


def recipe(value: Any, *keys: str | int) -> Callable[[Inputs], None]:
    def act(inputs: Inputs) -> None:
        place: Any = inputs.recipe
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return act


def other(field: str, value: Any) -> Callable[[Inputs], None]:
    return lambda inputs: setattr(inputs, field, value)


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


CHANGES = {
    "data.a.jsonl": [
        file("a.jsonl", flipped),
        file("a.jsonl", lambda content: content + b"appended\n"),
        file("a.jsonl", lambda content: b"".join(reversed(content.splitlines(keepends=True)))),
        file("a.jsonl", lambda content: content.replace(b"\n", b"\r\n")),
    ],
    "base.model.safetensors": [file("model.safetensors", flipped)],
    "base.config.json": [file("config.json", flipped)],
    "tokenizer.tokenizer.json": [file("tokenizer.json", flipped)],
    "template": [other("template", "{{ other }}"), other("template", None)],
    "dtype": [other("dtype", "bfloat16")],
    "seed": [recipe(18, "seed")],
    "data.sources[0].path": [recipe("b.jsonl", "data", "sources", 0, "path")],
    "data.sources.count": [recipe([], "data", "sources")],
    "goal.success[0].at_least": [recipe(0.4, "goal", "success", 0, "at_least")],
    "method.lora.rank": [recipe(8, "method", "options", "rank")],
    "method": [recipe("dora", "method", "name")],
    "train.epochs": [recipe(2.0, "train", "epochs")],
    "train.batch.examples": [recipe(16, "train", "batch", "examples")],
    "train.optimizer.adamw.learning_rate": [recipe(2e-4, "train", "optimizer", "options", "learning_rate")],
}


@pytest.mark.parametrize(
    ("field", "change"), [(field, change) for field, changes in CHANGES.items() for change in changes]
)
def test_a_change_that_matters_is_refused_by_name(inputs: Inputs, field: str, change: Callable[[Inputs], None]) -> None:
    before = inputs.take()
    assert compare(before, inputs.take()) == []
    change(inputs)
    after = inputs.take()
    problems = compare(before, after)
    assert {(problem.code, problem.level) for problem in problems} == {("F120", "error")}
    assert field in [problem.what.split(" was ")[0] for problem in problems]
    assert all(f"--allow-change {problem.what.split(' was ')[0]}" in str(problem.fix) for problem in problems)
    assert before.digest != after.digest


def test_old_and_new_value_are_named(inputs: Inputs) -> None:
    before = inputs.take()
    recipe(2e-4, "train", "optimizer", "options", "learning_rate")(inputs)
    file("a.jsonl", flipped)(inputs)
    after = inputs.take()
    old, new = before.fields["data.a.jsonl"][:12], after.fields["data.a.jsonl"][:12]
    assert [problem.what for problem in compare(before, after)] == [
        f"data.a.jsonl was {old}... when this run began and is {new}... now",
        "train.optimizer.adamw.learning_rate was 0.0001 when this run began and is 0.0002 now",
    ]


@pytest.mark.parametrize("key", ["learning_rate", "train.optimizer", "train", "train.optimizer.adamw.learning_rate"])
def test_a_change_can_be_allowed(inputs: Inputs, key: str) -> None:
    before = inputs.take()
    recipe(2e-4, "train", "optimizer", "options", "learning_rate")(inputs)
    (problem,) = compare(before, inputs.take(), allow=[key])
    assert (problem.code, problem.level) == ("F122", "info")
    inputs.threads = 4
    seed = recipe(1, "seed")
    seed(inputs)
    assert [problem.code for problem in compare(before, inputs.take(), allow=[key])] == ["F120", "F121", "F122"]


def test_allowing_what_does_not_exist_is_refused(inputs: Inputs) -> None:
    (problem,) = compare(inputs.take(), inputs.take(), allow=["learning_rat", "learning_rate"])
    assert problem.code == "F123"
    assert 'did you mean "train.optimizer.adamw.learning_rate"?' in problem.what


@pytest.mark.parametrize(
    "change",
    [
        other("threads", 4),
        other("versions", {"torch": "2.14.0"}),
        other("versions", {"torch": None}),
        recipe(256, "train", "micro_batch_tokens"),
    ],
)
def test_a_change_by_rounding_is_a_warning(inputs: Inputs, change: Callable[[Inputs], None]) -> None:
    before = inputs.take()
    change(inputs)
    (problem,) = compare(before, inputs.take())
    assert (problem.code, problem.level) == ("F121", "warning")
    assert "bitwise" in problem.what
    assert before.digest == inputs.take().digest


def test_harmless_changes_are_not_worth_a_word(inputs: Inputs) -> None:
    before = inputs.take()
    recipe("other", "name")(inputs)
    recipe("another thing", "goal", "statement")(inputs)
    recipe(50, "train", "checkpoint", "every")(inputs)
    assert compare(before, inputs.take()) == []
    assert before.digest == inputs.take().digest


def test_size_and_date_are_not_trusted(inputs: Inputs) -> None:
    import os

    before = inputs.take()
    path = inputs.root / "model.safetensors"
    date = path.stat()
    path.write_bytes(flipped(path.read_bytes()))
    os.utime(path, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert [problem.code for problem in compare(before, inputs.take())] == ["F120"]


def test_it_survives_a_file(inputs: Inputs, tmp_path: Path) -> None:
    taken = inputs.take()
    read = Fingerprint(json.loads(json.dumps(taken.json())))
    assert compare(taken, read) == []
    assert read.digest == taken.digest


def test_a_missing_file_is_a_coded_error(inputs: Inputs) -> None:
    (inputs.root / "a.jsonl").unlink()
    with pytest.raises(SartorError, match=r"F131: cannot read a\.jsonl"):
        inputs.take()
