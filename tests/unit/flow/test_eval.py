"""`sartor eval`: the same rows for every model, the first one the baseline, numbers that add up, nothing written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import sartor
from sartor.cli.main import run
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.reading import read
from sartor.errors import DataError, ModelError, RecipeError
from sartor.events import Event, Noted, Stage
from sartor.flow.eval import Evaluated, evaluate


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"prompt": f"ask {number}", "completion": f"say {number * number}"} for number in range(14)]
    return write(tmp_path_factory.mktemp("data") / "chat.jsonl", rows)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"text": f"text {number}", "label": ("a", "bb", "c")[number % 3]} for number in range(12)]
    return write(tmp_path_factory.mktemp("data") / "labels.jsonl", rows)


def call(models: list[Path], data: Path, events: list[Event] | None = None, **options) -> Evaluated:
    see = (lambda event: None) if events is None else events.append
    return evaluate([str(model) for model in models], str(data), **{"max_new_tokens": 4, "emit": see, **options})


def metric(result: Evaluated, name: str) -> dict:
    return next(dict(found) for found in result.metrics if found["name"] == name)


def test_models_are_compared_with_the_first(byte_model: Path, other_model: Path, chat: Path) -> None:
    result = call([byte_model, other_model, byte_model], chat, metrics=["perplexity", "length"])
    first, second, again = result.models
    assert (first, again) == (str(byte_model), f"{byte_model} (2)")
    scores = metric(result, "perplexity")["scores"]
    differences = metric(result, "perplexity")["differences"]
    assert scores[first]["value"] == scores[again]["value"] != scores[second]["value"]
    assert set(differences) == {second, again}
    assert differences[second]["value"] == pytest.approx(scores[second]["value"] - scores[first]["value"])
    assert differences[again]["value"] == 0
    assert (result.rows, result.of, result.shots, result.task) == (14, 14, 0, "chat")


def test_perplexity_is_that_of_the_model(byte_model: Path, chat: Path) -> None:
    import numpy as np

    result = call([byte_model], chat, metrics=["perplexity"])
    model = sartor.load(byte_model)
    rows = [json.loads(line) for line in chat.read_text().splitlines()]
    logp = np.concatenate([model.logprobs(row["prompt"], row["completion"]) for row in rows])
    assert metric(result, "perplexity")["scores"][str(byte_model)]["value"] == pytest.approx(
        np.exp(-logp.mean()), rel=1e-4
    )
    assert result.max_new_tokens is None


def test_classification_scores_the_labels(byte_model: Path, labelled: Path) -> None:
    result = call([byte_model], labelled)
    assert result.task == "classify"
    assert metric(result, "accuracy")["share"]
    assert 0 <= metric(result, "accuracy")["scores"][str(byte_model)]["value"] <= 1


def test_raw_text_is_judged_by_likelihood(byte_model: Path, tmp_path: Path) -> None:
    result = call([byte_model], write(tmp_path / "t.jsonl", [{"text": "a good year for apples"}, {"text": "rain"}]))
    assert result.task == "pretrain"
    assert {found["name"] for found in result.metrics} == {"perplexity", "bits_per_byte"}


def test_shots_are_taken_out_of_the_rows(byte_model: Path, chat: Path) -> None:
    plain = call([byte_model], chat, metrics=["perplexity"])
    result = call([byte_model], chat, metrics=["perplexity"], shots=3)
    assert (result.rows, result.of, result.shots) == (11, 11, 3)
    assert metric(result, "perplexity")["scores"] != metric(plain, "perplexity")["scores"]
    with pytest.raises(DataError, match="every row was taken"):
        call([byte_model], chat, shots=14)


def test_a_sample_is_fixed(byte_model: Path, chat: Path) -> None:
    first, second = (call([byte_model], chat, metrics=["perplexity"], rows=5) for _ in range(2))
    assert (first.rows, first.of) == (5, 14)
    assert first.metrics == second.metrics


def test_different_vocabularies_are_compared_by_bytes(byte_model: Path, other_vocabulary: Path, chat: Path) -> None:
    result = call([byte_model, other_vocabulary], chat)
    names = [found["name"] for found in result.metrics]
    assert "bits_per_byte" in names
    assert "perplexity" not in names
    events: list[Event] = []
    call([byte_model, other_vocabulary], chat, events, metrics=["perplexity"])
    assert [event.code for event in events if isinstance(event, Noted)] == ["E114"]
    assert [event.name for event in events if isinstance(event, Stage)] == ["data", "measure", "measure"]


def test_rows_that_a_run_was_trained_on_are_counted(byte_model: Path, chat: Path, tmp_path: Path) -> None:
    shutil.copytree(byte_model, tmp_path / "run/model")
    rows = list(read(chat, findings=Findings()))
    Dataset.write([replace(row, columns={"other": 1}) for row in rows[:6]], tmp_path / "run/data")
    parts = ["train", "train", "test", "train", "validation", "train"]
    (tmp_path / "run/data/manifest.json").write_text(json.dumps({"rows": [{"part": part} for part in parts]}))
    events: list[Event] = []
    call([tmp_path / "run/model"], chat, events, metrics=["perplexity"])
    (note,) = [event for event in events if isinstance(event, Noted)]
    assert (note.code, note.message[:12]) == ("E116", "4 of 14 rows")


def test_faults_are_told_before_anything_is_measured(byte_model: Path, chat: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="R140"):
        call([byte_model], chat, metrics=["exct_match"])
    with pytest.raises(ModelError, match="M100"):
        call([byte_model, tmp_path / "none"], chat)
    bad = write(tmp_path / "bad.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": None}])
    with pytest.raises(DataError, match=r"bad\.jsonl:2"):
        call([byte_model], bad)


def test_command(byte_model: Path, chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", str(byte_model), str(byte_model), "--data", str(chat), "--no-cache"]
    arguments += ["--metrics", "exact_match,perplexity"]
    assert run([*arguments, "--max-new-tokens", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"] == str(byte_model)
    assert [entry["name"] for entry in found["metrics"]] == ["exact_match", "perplexity"]
    assert run([*arguments, "--max-new-tokens", "3"]) == 0
    assert "no difference seen" in capsys.readouterr().out


def test_all_differences_are_corrected_together(byte_model: Path, other_model: Path, chat: Path) -> None:
    from sartor.evaluate.corrections import adjusted

    result = call([byte_model, other_model, byte_model], chat, metrics=["perplexity", "bits_per_byte"])
    found = [one for each in result.metrics for one in each["differences"].values()]
    assert [one["adjusted"] for one in found] == pytest.approx(adjusted([one["p"] for one in found], "holm"))
    body = result.json()
    assert (body["correction"], body["comparisons"]) == ("holm", 4)
    free = call([byte_model, other_model], chat, metrics=["perplexity"], correction="none", test="permutation")
    (one,) = free.metrics[0]["differences"].values()
    assert (one["test"], one["adjusted"]) == ("permutation", one["p"])


def test_a_further_metric_costs_no_generation(
    byte_model: Path, other_model: Path, chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sartor.generate.local import LocalGenerator

    models = [byte_model, other_model]
    first = call(models, chat, metrics=["exact_match"], cache=tmp_path)
    assert first.known == 0
    made: list[int] = []
    plain = LocalGenerator.generate

    def counted(self, prompts, **how):
        made.append(len(prompts))
        return plain(self, prompts, **how)

    monkeypatch.setattr(LocalGenerator, "generate", counted)
    more = call(models, chat, metrics=["exact_match", "rougeL", "length"], cache=tmp_path)
    assert more.known == 28
    assert sum(made) == 0
    assert metric(more, "length") == metric(call(models, chat, metrics=["length"]), "length")
    call(models, chat, metrics=["exact_match"], max_new_tokens=5, cache=tmp_path)
    assert sum(made) == 28 + 28


def test_a_damaged_cache_is_said_and_made_again(byte_model: Path, chat: Path, tmp_path: Path) -> None:
    first = call([byte_model], chat, metrics=["length"], cache=tmp_path)
    (file,) = tmp_path.rglob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0].replace('"stopped": ', '"stopped":  !'), *lines[1:]]))
    events: list[Event] = []
    again = call([byte_model], chat, events, metrics=["length"], cache=tmp_path)
    assert again.known == 13
    assert again.metrics == first.metrics
    assert [event.message for event in events if isinstance(event, Noted) and event.code == "E122"] == [
        f"1 answers of {byte_model} in the cache were damaged, and are made again"
    ]


def test_slices_suites_and_a_page(byte_model: Path, other_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"ask {n}", "completion": f"say {n}", "queue": ("a", "b")[n % 2]} for n in range(40)]
    data = write(tmp_path / "rows.jsonl", rows)
    page = tmp_path / "pages" / "compared.html"
    result = call(
        [byte_model, other_model], data, metrics=["perplexity"], slices=["queue"], suites=["over_refusal"], report=page
    )
    told = result.json()
    assert [(one["value"], one["rows"]) for one in told["slices"]["fields"][0]["slices"]] == [("a", 20), ("b", 20)]
    (suite,) = told["suites"]
    assert suite["name"] == "safety-over_refusal"
    assert set(suite["comparison"]["metrics"][0]["differences"]) == {str(other_model)}
    text = page.read_text()
    assert "it − " in text
    assert "by queue" in text
    assert suite["title"] in text


def test_suites_that_cannot_be_asked_are_told(byte_model: Path, chat: Path) -> None:
    with pytest.raises(RecipeError, match='unknown suite "nonsense"'):
        call([byte_model], chat, suites=["nonsense"])
    with pytest.raises(RecipeError, match=r"rows needs options \(data\)"):
        call([byte_model], chat, suites=["rows"])
    with pytest.raises(RecipeError, match="no test row has the column colour"):
        call([byte_model], chat, slices=["colour"])
