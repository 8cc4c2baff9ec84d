"""Broken recipes: each is refused with the exact code, line and column, all its faults at once, and nothing else happens."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sartor.errors import RecipeError
from sartor.recipe.load import CODES, load, parse

GOOD = "base: sartor/nano\ndata: tickets.jsonl\n"
"""Two lines, so that what a case appends starts in line 3."""

FULL = """\
version: 1
name: triage
seed: 3
base: {model: sartor/nano, dtype: float32}
data:
  sources:
    - path: tickets.jsonl
      map: {prompt: text, completion: triage}
      group: customer_id
    - more.jsonl
  on_bad: skip
  max_tokens: 512
  split: {train: 0.7, validation: 0.1, test: 0.2, seed: 9}
goal:
  task: generate
  statement: "Turn a ticket into JSON: no chatter"
  success:
    - {metric: json_valid, at_least: 0.98}
    - {metric: "metrics.py:field_f1", better_than: base, confidence: 0.9}
method: {lora: {rank: 16, alpha: 32, target_modules: all-linear}}
train:
  objective: sft
  epochs: 3
  batch: {tokens: 16384}
  optimizer: {adamw: {learning_rate: 1e-4, weight_decay: 0.01}}
  schedule: {linear: {warmup: 0.1}}
  stop: {on: validation.loss, patience: 3}
evaluate: {metrics: [json_valid, exact_match], against: [base], shots: 2}
"""

# name: (text, [(code, line, column, a word of the message), ...])
BROKEN: dict[str, tuple[str, list[tuple[str, int, int, str]]]] = {
    "misspelt section": (GOOD + "methd: lora\n", [("R102", 3, 1, 'did you mean "method"?')]),
    "misspelt key": (GOOD + "train:\n  epoch: 3\n", [("R102", 4, 3, 'did you mean "epochs"?')]),
    "misspelt required key": ("bas: sartor/nano\ndata: a.jsonl\n", [("R102", 1, 1, 'did you mean "base"?')]),
    "misspelt option of a component": (
        GOOD + "method: {lora: {rnk: 8}}\n",
        [("R102", 3, 17, 'did you mean "rank"?')],
    ),
    "option of a component without options": (
        GOOD + "method: {full: {rank: 8}}\n",
        [("R102", 3, 17, "method.lora.rank")],
    ),
    "key of another section": (GOOD + "epochs: 3\n", [("R102", 3, 1, "it belongs at train.epochs")]),
    "deep key of another section": (GOOD + "train: {tokens: 512}\n", [("R102", 3, 9, "train.batch.tokens")]),
    "misspelt key of another section": (
        GOOD + "lerning_rate: 1\n",
        [("R102", 3, 1, "train.optimizer.adamw.learning_rate")],
    ),
    "another tool's key": (GOOD + "train:\n  num_train_epochs: 3\n", [("R102", 4, 3, "it belongs at train.epochs")]),
    "key like nothing": (GOOD + "zzz: 1\n", [("R102", 3, 1, 'unknown key "zzz"')]),
    "key in a list": ("base: x\ndata:\n  - a.jsonl\n  - {path: b, frmat: text}\n", [("R102", 4, 15, '"format"')]),
    "text for a number": (GOOD + "train:\n  epochs: three\n", [("R103", 4, 11, 'above 0, or auto, not "three"')]),
    "quoted number": (GOOD + 'seed: "7"\n', [("R103", 3, 7, 'a whole number, not "7"')]),
    "fraction for a whole number": (GOOD + "seed: 7.5\n", [("R103", 3, 7, "a whole number, not 7.5")]),
    "truth value for a number": (GOOD + "seed: true\n", [("R103", 3, 7, "a whole number, not true")]),
    "number for a truth value": (GOOD + "train: {compile: 1}\n", [("R103", 3, 18, "true or false")]),
    "yes is text": (GOOD + "train: {compile: yes}\n", [("R103", 3, 18, 'true or false, or auto, not "yes"')]),
    "out of range": (GOOD + "train: {dropout: 1.0}\n", [("R103", 3, 18, "at least 0 and below 1, not 1.0")]),
    "zero where it makes no sense": (GOOD + "train: {steps: 0}\n", [("R103", 3, 16, "of at least 1, not 0")]),
    "infinity": (GOOD + "train: {epochs: .inf}\n", [("R103", 3, 17, '".inf"')]),
    "too large a number": (GOOD + "train: {epochs: 1e999}\n", [("R103", 3, 17, "too large")]),
    "unknown choice": (GOOD + "train: {on_spike: skipp}\n", [("R103", 3, 19, 'did you mean "skip"?')]),
    "list for text": (GOOD + "name: [a]\n", [("R103", 3, 1, "name must be text, not a list of 1")]),
    "number for a section": (GOOD + "train: 3\n", [("R103", 3, 8, "train must be a mapping")]),
    "empty section": (GOOD + "train:\n", [("R103", 3, 1, "train is empty")]),
    "number for a batch": (GOOD + "train: {batch: 32}\n", [("R103", 3, 16, "tokens, examples, or auto, not 32")]),
    "text for a list": (GOOD + "evaluate: {metrics: bleu}\n", [("R103", 3, 21, 'not "bleu"')]),
    "wrong entry of a list": (
        GOOD + "evaluate: {against: [base, tuned]}\n",
        [("R103", 3, 28, "base, or few_shot, or retrieval")],
    ),
    "number among sources": ("base: x\ndata: [a.jsonl, 5]\n", [("R103", 2, 17, "data.sources[1]")]),
    "no source": ("base: x\ndata: []\n", [("R103", 2, 7, "at least one entry")]),
    "number in a map": (
        "base: x\ndata: {sources: [{path: a, map: {prompt: 1}}]}\n",
        [("R103", 2, 42, "data.sources[0].map.prompt must be text, not 1")],
    ),
    "options that are no mapping": (
        GOOD + "train: {optimizer: {adamw: 3}}\n",
        [("R103", 3, 28, "train.optimizer.adamw must be a mapping")],
    ),
    "wrong value of a component": (
        GOOD + "method: {lora: {alpha: big}}\n",
        [("R103", 3, 24, "a number above 0, or auto")],
    ),
    "wrong entry of a pair": (
        GOOD + "train: {optimizer: {adamw: {betas: [0.9, 2]}}}\n",
        [("R103", 3, 42, "train.optimizer.adamw.betas[1]")],
    ),
    "wrong version": (GOOD + "version: 2\n", [("R103", 3, 10, "version must be 1, not 2")]),
    "number for a component": (GOOD + "method: 5\n", [("R103", 3, 9, "the name of a method (adapter, dora, full, ")]),
    "two components": (GOOD + "method: {lora: {}, full: {}}\n", [("R103", 3, 1, "not a mapping")]),
    "metric that is no function": (GOOD + 'evaluate: {metrics: ["a.txt:f"]}\n', [("R106", 3, 22, "file.py:function")]),
    "no base": ("data: a.jsonl\n", [("R104", 1, 1, '"base" is missing')]),
    "nothing required": ("seed: 1\n", [("R104", 1, 1, '"base" is missing'), ("R104", 1, 1, '"data" is missing')]),
    "no path": (
        "base: x\ndata:\n  sources:\n    - format: text\n",
        [("R104", 4, 7, '"data.sources[0].path" is missing')],
    ),
    "no metric": (GOOD + "goal: {success: [{at_least: 1}]}\n", [("R104", 3, 18, "metric")]),
    "unknown method": (GOOD + "method: lroa\n", [("R105", 3, 9, 'did you mean "lora"?')]),
    "unknown method with options": (GOOD + "method: {lroa: {rank: 3}}\n", [("R105", 3, 10, 'did you mean "lora"?')]),
    "option in place of the method": (
        GOOD + "method: {rank: 8}\n",
        [("R105", 3, 10, "an option of the method dora or lora or ")],
    ),
    "unknown objective": (GOOD + "train: {objective: sfft}\n", [("R105", 3, 20, 'did you mean "sft"?')]),
    "unknown optimizer": (GOOD + "train: {optimizer: adamm}\n", [("R105", 3, 20, '"adam')]),
    "unknown schedule": (GOOD + "train: {schedule: {cosin: {}}}\n", [("R105", 3, 20, 'did you mean "cosine"?')]),
    "unknown metric": (GOOD + "evaluate: {metrics: [exactmatch]}\n", [("R105", 3, 22, 'did you mean "exact_match"?')]),
    "unknown metric of a gate": (
        GOOD + "goal: {success: [{metric: blue, at_least: 1}]}\n",
        [("R105", 3, 27, '"bleu"')],
    ),
    "unknown format": ("base: x\ndata: [{path: a, format: mesages}]\n", [("R105", 2, 26, 'did you mean "messages"?')]),
    "epochs and steps": (GOOD + "train: {epochs: 3, steps: 10}\n", [("R106", 3, 20, "epochs or steps, not both")]),
    "two sizes of a batch": (
        GOOD + "train: {batch: {tokens: 9, examples: 9}}\n",
        [("R106", 3, 17, "either tokens or examples")],
    ),
    "split that is not whole": (
        GOOD[:18] + "data: {sources: [a], split: {train: 0.9}}\n",
        [("R106", 2, 30, "not 1.1")],
    ),
    "gate without a rule": (GOOD + "goal: {success: [{metric: bleu}]}\n", [("R106", 3, 19, "exactly one of")]),
    "vague goal": (GOOD + "goal: do better\n", [("R106", 3, 7, "too vague")]),
    "planned section": (GOOD + "tune: {}\n", [("R107", 3, 1, "not available in this version")]),
    "planned key": (GOOD[:18] + "data: {sources: [a], checks: []}\n", [("R107", 2, 22, '"checks" in data')]),
    "a judge is no metric": (GOOD + "evaluate: {metrics: [judge]}\n", [("R105", 3, 22, 'unknown metric "judge"')]),
    "unknown judge": (GOOD + "evaluate: {judge: [jury]}\n", [("R105", 3, 20, 'unknown judge "jury"')]),
    "judge without a model": (
        GOOD + "evaluate: {judge: [rubric]}\n",
        [("R104", 3, 20, "evaluate.judge[0].rubric.model")],
    ),
    "planned task": (GOOD + "goal: {task: embed}\n", [("R107", 3, 14, "embed")]),
    "stages": (
        GOOD + "train:\n  - {objective: sft}\n  - {epoch: 1}\n  - 3\n",
        [("R102", 5, 6, "epochs"), ("R103", 6, 5, "train[2]")],
    ),
    "no stage": (GOOD + "train: []\n", [("R103", 3, 1, "at least one stage")]),
    "stage with two kinds of rows": (
        GOOD + "train:\n  - {data: a.jsonl, prompts: b.jsonl}\n",
        [("R106", 4, 21, "both data and prompts")],
    ),
    "key twice": (GOOD + "seed: 1\nseed: 2\n", [("R108", 4, 1, "first in line 3")]),
    "key twice in a bracket": (GOOD + "train: {steps: 1, steps: 2}\n", [("R108", 3, 19, '"steps" appears twice')]),
    "anchor and alias": (GOOD + "seed: &s 3\nname: *s\n", [("R109", 3, 7, "anchors"), ("R109", 4, 7, "aliases")]),
    "merge key": (GOOD + "<<: {seed: 1}\n", [("R109", 3, 1, "merge keys")]),
    "tag": (GOOD + "name: !!str 5\n", [("R109", 3, 7, "tags")]),
    "object": (GOOD + "name: !!python/object/apply:os.system [exit]\n", [("R109", 3, 7, "tags")]),
    "own tag": (GOOD + "name: !env HOME\n", [("R109", 3, 7, "tags")]),
    "control character": (GOOD + "name: a\x07b\n", [("R111", 3, 8, "x07")]),
    "half a surrogate pair": (GOOD + 'name: "\\ud800"\n', [("R111", 3, 7, "surrogate")]),
    "escape beyond Unicode": (GOOD + 'name: "\\UFFFFFFFF"\n', [("R101", 3, 10, "escape")]),
    "tab": (GOOD + "train:\n\tepochs: 3\n", [("R101", 4, 1, "a tab")]),
    "wrong indentation": (GOOD + "train:\n    epochs: 3\n  steps: 4\n", [("R101", 5, 3, "indentation")]),
    "open bracket": (GOOD + "train: {epochs: 3\n", [("R101", 3, 8, "bracket is not closed")]),
    "open quote": (GOOD + 'name: "abc\n', [("R101", 3, 7, "quote is not closed")]),
    "colon in text": (GOOD + "goal: turn this: into that\n", [("R101", 3, 16, '":"')]),
    "text without a key": (GOOD + "lora\n", [("R101", 3, 1, 'a key without ":"')]),
    "list as a key": (GOOD + "? [a]\n: b\n", [("R101", 3, 3, "plain text")]),
    "at sign": (GOOD + "name: @home\n", [("R101", 3, 7, "cannot start with @")]),
    "nesting bomb": (GOOD + "name: " + "[" * 60_000, [("R112", 3, 6 + 50, "deeper than 50")]),
    "many values": (GOOD + "name: [" + "1," * 11_000 + "]\n", [("R112", 3, 20_000 - 6, "more than 10,000 values")]),
    "second document": (GOOD + "---\nbase: y\n", [("R113", 3, 1, "second document")]),
    "empty": ("", [("R113", 1, 1, "empty")]),
    "only comments": ("# nothing\n\n", [("R113", 1, 1, "empty")]),
    "list at the top": ("- a\n- b\n", [("R113", 1, 1, "not a list")]),
    "text at the top": ("\n\nsartor/nano\n", [("R113", 3, 1, "not a single value")]),
    "secret": (GOOD + "name: sk-proj-Abcdefghijklmnop1234\n", [("R114", 3, 7, "OpenAI")]),
    "secret in a comment": (GOOD + "# hf_ABCDEFGHIJKLMNOPQRSTUVWX\n", [("R114", 3, 3, "Hugging Face")]),
    "several at once": (
        "base: {model: x, dtype: half}\ndata: a.jsonl\nmetod: lora\ntrain:\n  epochs: -1\n  schedule: linar\n  lr: 1\n",
        [
            ("R103", 1, 25, "bfloat16"),
            ("R102", 3, 1, "method"),
            ("R103", 5, 11, "above 0"),
            ("R105", 6, 13, "linear"),
            ("R102", 7, 3, "learning_rate"),
        ],
    ),
}


def problems(text: str) -> list[tuple[str, int | None, int | None, str]]:
    with pytest.raises(RecipeError) as caught:
        parse(text, "recipe.yaml")
    assert all(problem.file == "recipe.yaml" for problem in caught.value.problems)
    return [(problem.code, problem.line, problem.column, problem.what) for problem in caught.value.problems]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recipe_is_located(name: str) -> None:
    text, expected = BROKEN[name]
    found = problems(text)
    assert [entry[:3] for entry in found] == [entry[:3] for entry in expected], found
    for (*_, what), (*_, word) in zip(found, expected, strict=True):
        assert word in what


def test_every_code_is_met_by_a_case() -> None:
    elsewhere = {"R110", "R115"}
    assert {code for _, expected in BROKEN.values() for code, *_ in expected} | elsewhere == set(CODES)


def test_the_message_is_the_one_promised() -> None:
    with pytest.raises(RecipeError) as caught:
        parse("base: x\ndata: y\n\n\ntrain:\n  on_spik: stop\n", "recipe.yaml")
    assert str(caught.value) == (
        'recipe.yaml:6:3  error R102: unknown key "on_spik"; did you mean "on_spike"?\n'
        "     6 |   on_spik: stop\n"
        "       |   ^^^^^^^"
    )


def test_the_full_recipe_of_this_file_is_good() -> None:
    assert parse(FULL).recipe.name == "triage"


@pytest.mark.parametrize(
    ("content", "code", "line", "column"),
    [
        (b"base: x\nname: caf\xe9\n", "R111", 2, 10),
        ("base: x\n".encode("utf-16"), "R111", 1, 1),
        (b"base: x\nname: a\x00b\n", "R111", 2, 8),
        (b"# " + b"x" * (1 << 20), "R112", None, None),
    ],
    ids=["latin-1", "utf-16", "nul", "over 1 MiB"],
)
def test_a_broken_file_is_located(
    tmp_path: Path, content: bytes, code: str, line: int | None, column: int | None
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.code, problem.file, problem.line, problem.column) == (code, str(path), line, column)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(GOOD)
    with pytest.raises(RecipeError, match=r"R110: there is no such file.*did you mean .*recipe\.yaml"):
        load(tmp_path / "recipes.yaml")
    with pytest.raises(RecipeError, match="R110: this is a folder"):
        load(tmp_path)
    with pytest.raises(RecipeError, match="R110"):
        load("a\0b")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"sed: 1\n")
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert [(problem.code, problem.line, problem.column) for problem in caught.value.problems] == [("R102", 3, 1)]


def test_windows_line_ends_do_not_move_the_caret() -> None:
    assert problems("base: x\r\ndata: y\r\nsed: 1\r\n")[0][:3] == ("R102", 3, 1)


SECRETS = [
    "sk-abcdefghijklmnopqrstuvwxyz123456",
    "sk-ant-api03-AbCd_EfGh-1234567890abcdefXYZ",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEF",
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "https://me:hunter2secret@host/data.jsonl",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "where", ["name: {}", "api_key: {}", '"{}": 1', "# {}", "train: [{}", "base: &{} x", "seed: {}"]
)
def test_a_secret_is_refused_and_never_echoed(secret: str, where: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(GOOD + where.format(secret) + "\n", "recipe.yaml")
    assert "R114" in {problem.code for problem in caught.value.problems}
    told = str(caught.value) + repr([problem.json() for problem in caught.value.problems])
    assert secret.removeprefix("https://").split("@")[0] not in told


def test_a_secret_in_an_override_is_never_echoed() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(GOOD, "recipe.yaml", [f"base.revision={SECRETS[0]}", f"x={SECRETS[2]}"])
    assert [problem.code for problem in caught.value.problems].count("R114") == 2
    assert not any(secret in str(caught.value) for secret in SECRETS)


@pytest.mark.parametrize(
    "name", ["sk-learn-text-classification.jsonl", "tickets_sk-9.jsonl", "https://host:80/a@b", "hf_data"]
)
def test_what_is_no_secret_is_let_through(name: str) -> None:
    assert parse(f"base: x\ndata: {name}\n").recipe.data.sources[0].path == name


def attempt(text: str, *overrides: str) -> None:
    """Success or RecipeError with located problems; anything else fails the test."""
    try:
        parse(text, "recipe.yaml", overrides)
    except RecipeError as error:
        for problem in error.problems:
            assert problem.code in CODES
            assert problem.what
            assert problem.file == "recipe.yaml" or str(problem.file).startswith("override ")
            assert problem.line is not None or problem.file != "recipe.yaml"
            assert not problem.caret or len(problem.excerpt or "") + 1 >= (problem.column or 0)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
@example("\x85")
@example("? ")
@example("%YAML 9.9\n---\na: b")
@example("%TAG ! a\n---\n!x y")
@example("a: |9\n x")
@example("\ufeff\ufeffa: b")
@example("!!python/name:os.system")
def test_any_text_is_read_or_refused(text: str) -> None:
    attempt(text)


PIECES = [
    *":{}[]&*!|>'\"%@`#,-?\t\n ",
    "\u2028",
    "\x85",
    "é",
    "  ",
    "auto",
    "null",
    "~",
    "1e999",
    "<<: ",
    "- ",
    "---\n",
    "lora",
    "\\U",
]


@settings(max_examples=250, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_mutated_recipe_is_read_or_refused(source: random.Random) -> None:
    text = FULL
    for _ in range(source.randint(1, 5)):
        start = source.randrange(len(text) + 1)
        end = min(len(text), start + source.choice([0, 0, 1, 1, 3, 20]))
        text = text[:start] + source.choice([*PIECES, "", text[end : end + 9]]) + text[end:]
    attempt(text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["auto", "lora", "adamw"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["lora", "path", "rank", "x", "tokens"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ["base", "data", "goal.success", "method", "method.lora", "train", "train.batch", "train.optimizer.adamw", "evaluate.metrics", "data.sources[0]", "data.sources[1].map", "seed", "train.steps", "nothing.x", "a[", "goal"]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=3), st.text(max_size=12))
def test_any_override_is_taken_or_refused(pairs: list[tuple[str, object]], loose: str) -> None:
    attempt(FULL, *(f"{key}={value!r}" for key, value in pairs), loose)


def test_nothing_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for call in (f"os.system ['touch {witness}']", f"subprocess.check_call [[touch, '{witness}']]"):
        for tag in ("!!python/object/apply:", "!!python/object/new:", "!<tag:yaml.org,2002:python/object/apply:"):
            attempt(f"{GOOD}name: {tag}{call}\n", f"name={tag}{call}")
    attempt(GOOD + "method: os\ntrain: {objective: __init__, optimizer: sartor.cli, schedule: _warmup}\n")
    assert os.listdir(tmp_path) == []


HOSTILE = [
    "[",
    "- ",
    "k",
    "{a: 1}\n",
    "a:\n",
    "'x",
    "\n",
    "sk-",
    "-eyJ",
    "-eyJ.",
    "://a:",
    "AKIA",
    "-----BEGIN A",
    f"{SECRETS[0]} ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_file_is_refused_quickly(piece: str) -> None:
    began = time.process_time()
    attempt(piece * ((1 << 18) // len(piece)))
    assert time.process_time() - began < 5


def test_many_faults_take_no_longer_than_some() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(GOOD + "".join(f"key{number}: 1\n" for number in range(3000)))
    assert len(caught.value.problems) == 100
