"""Models with heads from recipe to use: what is decided, what is refused, what a run makes, and what is done with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import headed
import job
import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from sartor.errors import DataError, ModelError, RecipeError
from sartor.evaluate.calibrate import calibrated, of_classes, of_labels, thresholds
from sartor.evaluate.heads import Told, log_softmax, sigmoid
from sartor.evaluate.outcomes import from_line, read_outcomes, to_line
from sartor.flow.check import check
from sartor.flow.data_show import data_show
from sartor.flow.eval import evaluate
from sartor.flow.model import load
from sartor.flow.predict import predict
from sartor.flow.prepare import Prepared, prepare
from sartor.models.catalog import ModelFolder
from sartor.models.heads import HeadSpec
from sartor.models.hf import kind_of as own_kind
from sartor.models.hf import read_config
from sartor.models.kinds import kind_of, reach
from sartor.protocols import Outcome
from sartor.recipe.load import load as load_recipe

ROWS = {
    "labels": job.labelled,
    "multi": headed.multilabel,
    "scores": headed.scored,
    "pairs": headed.pairs,
    "tags": headed.tagged,
    "texts": job.texts,
    "chats": job.chats,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    names = ("bert", "roberta", "t5", "llama")
    for name in names:
        (root / name).mkdir()
        headed.save_model(root / name, name)
    return {name: root / name for name in names}


def recipe(folder: Path, model: Path, rows: str, count: int = 60, **changes: Any) -> Path:
    train = {"steps": 2, "threads": 1, "batch": {"examples": 8}, "validation": {"every": 2}, **changes.pop("train", {})}
    body: dict[str, Any] = {
        "base": str(model),
        "data": {"sources": ["orders.jsonl"], "split": {"train": 0.6, "validation": 0.2, "test": 0.2}},
        "train": train,
        "evaluate": {"resamples": 200, "shots": 1, "max_new_tokens": 4},
        **changes,
    }
    return job.write(folder, body, ROWS[rows](count))


def prepared(folder: Path, *arguments: Any, **changes: Any) -> Prepared:
    return prepare(load_recipe(recipe(folder, *arguments, **changes), ()), folder / "work", lambda event: None)


@pytest.mark.parametrize("name", ["bert", "roberta", "t5", "llama"])
def test_files_tell_the_kind_that_transformers_makes(models: Mapping[str, Path], name: str, tmp_path: Path) -> None:
    folder = ModelFolder(models[name], name, json.loads((models[name] / "config.json").read_text()))
    assert kind_of(folder) == own_kind(read_config(models[name], {}))
    nameless = {key: value for key, value in folder.config.items() if key != "architectures"}
    assert kind_of(ModelFolder(models[name], name, nameless)) == kind_of(folder)


def test_an_encoder_reads_as_far_as_its_tokenizer_says(models: Mapping[str, Path]) -> None:
    """RoBERTa's positions begin behind that of padding, so it has more of them than it reads tokens."""
    for name, expected in (("roberta", 256), ("llama", 512)):
        config = json.loads((models[name] / "config.json").read_text())
        assert reach(ModelFolder(models[name], name, config)) == expected


@pytest.mark.parametrize(
    ("name", "rows", "task", "objective", "kind"),
    [
        ("bert", "labels", "classify", "classify", "classes"),
        ("bert", "multi", "classify", "multilabel", "labels"),
        ("bert", "pairs", "regress", "regress", "number"),
        ("bert", "tags", "tag", "tag", "tags"),
        ("bert", "texts", "pretrain", "masked_lm", None),
        ("t5", "texts", "pretrain", "span_corruption", None),
        ("t5", "labels", "classify", "sft", None),
        ("llama", "labels", "classify", "sft", None),
        ("llama", "multi", "classify", "sft", None),
        ("llama", "scores", "regress", "regress", "number"),
        ("llama", "texts", "pretrain", "pretrain", None),
    ],
)
def test_the_objective_follows_rows_and_kind_of_model(
    models: Mapping[str, Path], tmp_path: Path, name: str, rows: str, task: str, objective: str, kind: str | None
) -> None:
    made = prepared(tmp_path, models[name], rows)
    assert (made.settings.task, made.settings.objective.name) == (task, objective)
    assert (made.settings.head.kind if made.settings.head else None) == kind
    assert (made.inputs is not None) == (kind is not None)


@pytest.mark.parametrize(
    ("name", "rows", "objective", "told"),
    [
        (
            "bert",
            "chats",
            "sft",
            "sft trains a decoder or an encoder-decoder or a vision-text model; the base is an encoder",
        ),
        ("llama", "texts", "masked_lm", "masked_lm trains an encoder; the base is a decoder"),
        ("llama", "texts", "span_corruption", "span_corruption trains an encoder-decoder; the base is a decoder"),
        ("t5", "tags", "tag", "tag trains a decoder or an encoder; the base is an encoder-decoder"),
        ("bert", "labels", "regress", "regress does not learn from example rows"),
        ("bert", "tags", "classify", "classify does not learn from tagged rows"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    models: Mapping[str, Path], tmp_path: Path, name: str, rows: str, objective: str, told: str
) -> None:
    path = recipe(tmp_path, models[name], rows, train={"objective": objective})
    with pytest.raises(RecipeError, match=f"R106: {told}"):
        job.run(path, tmp_path / "out", (), (), lambda event: None)
    assert not (tmp_path / "out").exists()


def test_rows_are_shown_as_the_head_reads_them(models: Mapping[str, Path], tmp_path: Path) -> None:
    path = recipe(tmp_path, models["bert"], "pairs")
    shown = data_show(str(path), rows=1, emit=lambda event: None)
    (row,) = shown.rows
    assert row.answer == "learnt at the head: 5.0"
    assert row.supervised == 1
    text = "".join(piece.text for piece in row.pieces)
    assert text.count("[SEP]") == 2
    assert text.startswith("[CLS]")


def test_a_check_says_what_the_head_tells(models: Mapping[str, Path], tmp_path: Path) -> None:
    heads = {
        rows: check(recipe(tmp_path / rows, models["bert"], rows), (), lambda event: None)
        for rows in ("labels", "pairs")
    }
    assert list(heads["labels"].data["head"]["names"]) == ["cold", "warm"]
    told = []
    for found in heads.values():
        console = Console(width=200, record=True, file=StringIO())
        found.render(console)
        told.append(console.export_text())
    assert "2 labels: cold, warm" in told[0]
    assert "a number, in training" in told[1]


def test_numbers_can_be_learnt_as_text(models: Mapping[str, Path], tmp_path: Path) -> None:
    made = prepared(tmp_path, models["llama"], "pairs", train={"objective": "sft"})
    text = made.renderer.decode([made.tokens["train"][0].ids.tolist()])[0]
    assert text.count("<|im_start|>user") == 1
    assert made.settings.head is None


def test_a_curriculum_by_the_loss_of_the_base_needs_words(models: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the base has no loss of its own"):
        prepared(tmp_path, models["bert"], "labels", train={"curriculum": "loss"})


def test_a_base_without_what_an_objective_puts_in_is_refused(models: Mapping[str, Path], tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in models["t5"].iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    body = json.loads((plain / "tokenizer.json").read_text())
    body["added_tokens"] = [one for one in body["added_tokens"] if "extra_id" not in one["content"]]
    (plain / "tokenizer.json").write_text(json.dumps(body))
    with pytest.raises(RecipeError, match="needs sentinels"):
        prepared(tmp_path, plain, "texts")


def test_a_task_that_the_rows_are_not_for_is_refused(models: Mapping[str, Path], tmp_path: Path) -> None:
    for rows, task in (("labels", "regress"), ("scores", "classify"), ("tags", "generate")):
        with pytest.raises(DataError, match="D180"):
            prepared(tmp_path / rows, models["bert"], rows, goal={"task": task})


def finished(tmp_path: Path, model: Path, rows: str, **changes: Any) -> tuple[Path, dict[str, Any]]:
    path = recipe(tmp_path, model, rows, **changes)
    torch.set_num_threads(1)
    ran = job.run(path, tmp_path / "out", (), (), lambda event: None)
    return ran.folder, dict(ran.comparison)


def scores(comparison: Mapping[str, Any], metric: str) -> dict[str, float]:
    (found,) = (entry for entry in comparison["metrics"] if entry["name"] == metric)
    return {name: score["value"] for name, score in found["scores"].items()}


def test_a_run_on_labels_makes_a_model_that_transformers_opens(models: Mapping[str, Path], tmp_path: Path) -> None:
    evaluate_ = {"metrics": ["accuracy", "ece", "mcc"], "resamples": 200}
    folder, comparison = finished(tmp_path, models["bert"], "labels", evaluate=evaluate_, train={"steps": 6})
    assert comparison["models"] == ["base", "tuned"]
    assert set(scores(comparison, "accuracy")) == {"base", "tuned"}
    events = (folder / "events.jsonl").read_text()
    assert "frozen features" in events
    assert "N415" in events
    texts = [row["text"] for row in job.labelled(5)]
    theirs = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    with torch.no_grad():
        logits = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    ours = load(folder)
    assert ours.predict(texts) == [theirs.config.id2label[int(place)] for place in logits.argmax(dim=1)]
    heat = ours.policy.head.temperature
    assert heat != 1.0
    expected = (logits / heat).softmax(dim=1)
    for line, found in zip(expected, ours.probabilities(texts), strict=True):
        assert [found[name] for name in ("cold", "warm")] == pytest.approx(line.tolist(), abs=1e-4)
        assert sum(found.values()) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ModelError, match="M174"):
        ours.chat("Hello")
    outcomes = read_outcomes(folder / "predictions" / "tuned.jsonl")
    assert all(sum(np.exp(list(one.label_scores.values()))) == pytest.approx(1, abs=1e-4) for one in outcomes)
    told = evaluate([str(folder)], str(tmp_path / "orders.jsonl"), metrics=["accuracy"], emit=lambda event: None)
    assert told.task == "classify"


def test_numbers_are_scaled_back(models: Mapping[str, Path], tmp_path: Path) -> None:
    folder, comparison = finished(tmp_path, models["bert"], "pairs")
    assert set(scores(comparison, "rmse")) == {"base", "tuned"}
    ours = load(folder)
    head = ours.policy.head
    rows = headed.pairs(60)
    assert 1.5 < head.center < 5.0
    assert head.spread == pytest.approx(1.75, abs=0.1)
    texts = [(row["sentence1"], row["sentence2"]) for row in rows[:4]]
    theirs = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    with torch.no_grad():
        raw = [float(theirs(**tokenizer(*pair, return_tensors="pt")).logits) for pair in texts]
    assert ours.predict(texts) == pytest.approx([head.center + head.spread * value for value in raw], abs=1e-4)
    assert all(float(flip["after"]) for flip in (*comparison["flips"]["better"], *comparison["flips"]["worse"]))
    outcomes = read_outcomes(folder / "predictions" / "tuned.jsonl")
    right = np.array([float(one.reference) for one in outcomes])
    given = np.array([one.value for one in outcomes])
    assert scores(comparison, "rmse")["tuned"] == pytest.approx(np.sqrt(np.mean((right - given) ** 2)))


def test_tags_of_words(models: Mapping[str, Path], tmp_path: Path) -> None:
    folder, comparison = finished(tmp_path, models["roberta"], "tags", train={"steps": 3})
    assert set(scores(comparison, "tag_f1")) == {"base", "tuned"}
    words = headed.tagged(3)[0]["tokens"]
    ours = load(folder)
    (found,) = ours.predict([words])
    assert len(found) == len(words)
    theirs = AutoModelForTokenClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", add_prefix_space=False)
    encoded = tokenizer(" ".join(words), return_tensors="pt")
    with torch.no_grad():
        best = theirs(**encoded).logits[0].argmax(dim=1)
    firsts = ours.inputs.read(headed_row(words)).firsts
    assert found == [theirs.config.id2label[int(best[place])] for place in firsts]


def headed_row(words: list[str]) -> Any:
    from sartor.data.rows import Origin, Tagged

    return Tagged(origin=Origin("a", 1), tokens=tuple(words), tags=("O",) * len(words))


def test_a_decoder_is_compared_with_itself_in_words(models: Mapping[str, Path], tmp_path: Path) -> None:
    folder, comparison = finished(tmp_path, models["llama"], "labels", train={"objective": "classify"}, method="lora")
    assert comparison["models"] == ["base", "few_shot", "tuned"]
    base = read_outcomes(folder / "predictions" / "base.jsonl")
    assert all(one.label in ("cold", "warm") for one in base)
    assert (folder / "model" / "adapter_config.json").exists()
    assert load(folder).predict(["red lamps"])[0] in ("cold", "warm")


@pytest.mark.parametrize(("name", "rows"), [("bert", "texts"), ("t5", "texts")])
def test_hidden_tokens_become_likelier(models: Mapping[str, Path], tmp_path: Path, name: str, rows: str) -> None:
    optimizer = {"adamw": {"learning_rate": 0.01}}
    _, comparison = finished(tmp_path, models[name], rows, train={"steps": 10, "optimizer": optimizer})
    assert [metric["name"] for metric in comparison["metrics"]] == ["perplexity"]
    found = scores(comparison, "perplexity")
    assert found["tuned"] < 0.9 * found["base"]


def test_rows_gain_what_the_head_tells(models: Mapping[str, Path], tmp_path: Path) -> None:
    folder, _ = finished(tmp_path, models["bert"], "multi", evaluate={"resamples": 200})
    given = tmp_path / "in.jsonl"
    job.write_rows(given, [{"id": "x", "text": "red lamps", "labels": ["red"]}, {"text": "blue beds"}])
    predict(str(folder), given, tmp_path / "out.jsonl", emit=lambda event: None)
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert (first["id"], first["labels_given"]) == ("x", ["red"])
    assert set(first["probabilities"]) == {"blue", "chairs", "lamps", "red"}
    assert set(second) == {"id", "text", "prediction", "labels", "probabilities"}


def test_an_outcome_survives_its_line() -> None:
    for outcome in (
        Outcome(id="1", prompt="a", reference="none", labels=[], right_labels=[], label_scores={"x": -0.5}),
        Outcome(id="1", prompt="a", reference="O", tags=["O"], right_tags=["O"]),
        Outcome(id="1", prompt="a", reference="3.5", value=0.0),
    ):
        assert from_line(to_line(outcome)) == outcome


def test_the_temperature_is_the_one_that_is_likeliest() -> None:
    """Against a fine grid; outputs three times too large ask for a temperature of about three."""
    draw = np.random.default_rng(0)
    true = draw.normal(0, 1.5, (4000, 3))
    right = np.array([draw.choice(3, p=np.exp(line)) for line in log_softmax(true)])
    heat = of_classes(3 * true, right)
    assert heat == pytest.approx(3.0, rel=0.1)
    rows = np.arange(4000)
    losses = {t: -log_softmax(3 * true / t)[rows, right].sum() for t in np.linspace(2, 4, 401)}
    assert heat == pytest.approx(min(losses, key=losses.__getitem__), abs=0.01)
    holds = draw.random((4000, 3)) < sigmoid(true)
    assert of_labels(2 * true, holds) == pytest.approx(2.0, rel=0.1)


def test_thresholds_are_those_with_the_best_f1() -> None:
    draw = np.random.default_rng(1)
    shares = draw.random((300, 2))
    holds = draw.random((300, 2)) < shares**2
    found = thresholds(shares, holds)
    for column, here, limit in zip(shares.T, holds.T, found, strict=True):
        f1 = {t: 2 * (here & (column >= t)).sum() / (here.sum() + (column >= t).sum()) for t in [*column, limit]}
        assert f1[limit] == pytest.approx(max(f1.values()))
    assert thresholds(shares[:12], holds[:12]) == (0.5, 0.5)


def test_a_head_without_validation_rows_stays_as_it_is() -> None:
    head = HeadSpec("classes", ("a", "b"))
    assert calibrated(head, []) == head
    row = headed_row(["x"])
    tagged = calibrated(HeadSpec("tags", ("B", "O")), [Told(row, np.array([[0.0, 5.0]]))])
    assert tagged.temperature < 1
