"""`sartor interpolate`: ends equal base and tuned model, between them the weights of equation 1; test rows stay closed."""

from __future__ import annotations

import json
from pathlib import Path

import job
import peft
import pytest
import tiny
import torch
from job import Done
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sartor.cli.main import run
from sartor.errors import DataError, ModelError, RecipeError, RunError
from sartor.flow.eval import evaluate
from sartor.flow.interpolate import Interpolated, interpolate
from sartor.flow.run import run as run_recipe
from sartor.models.catalog import resolve
from sartor.models.interpolate import Between, Scaled
from sartor.models.load import load
from sartor.models.policy import CausalPolicy
from sartor.models.weights import stored, whole
from sartor.store.run import Run
from sartor.tokens.batch import collate

BATCH = collate(tiny.rows(4, seed=8))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("interpolate") / "base")


@pytest.fixture(scope="module", params=["lora", "full"])
def done(base: Path, request: pytest.FixtureRequest) -> Done:
    return job.finish(base.with_name(request.param), job.recipe(base, method=request.param))


@pytest.fixture(scope="module")
def probe(base: Path) -> Path:
    return job.write_rows(
        base.with_name("probe.jsonl"), [{"prompt": f"{n} + 1?", "completion": str(n + 1)} for n in range(5)]
    )


def call(folder: Path, **options) -> Interpolated:
    return interpolate(str(folder), **{"steps": 3, "rows": 6, "emit": lambda event: None, **options})


def logits(policy: CausalPolicy) -> torch.Tensor:
    policy.eval()
    with torch.no_grad():
        return policy.logits(BATCH)


def opened(path: Path) -> CausalPolicy:
    return load(resolve(str(path), path.parent))


def test_weights_between_two_models(base: Path, tmp_path: Path) -> None:
    other = job.save_model(tmp_path / "other", seed=3)
    ends = [stored(resolve(str(path), path), str(path)) for path in (base, other)]
    policy = opened(base)
    placed = Between(policy, *ends)
    for alpha in (0.3, 1.0, 0.0):
        placed.at(alpha)
        start, end = (load_file(path / "model.safetensors") for path in (base, other))
        for name, parameter in policy.model.named_parameters():
            torch.testing.assert_close(parameter.detach(), (1 - alpha) * start[name] + alpha * end[name])
    assert torch.equal(logits(policy), logits(opened(base)))
    placed.at(1.0)
    assert torch.equal(logits(policy), logits(opened(other)))


def test_the_scale_of_an_adapter_is_the_same_line(base: Path, tmp_path: Path) -> None:
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for parameter in (each for each in model.parameters() if each.requires_grad):
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    folder = resolve(str(tmp_path / "adapter"), tmp_path)
    scaled, between = load(folder), opened(base)
    ends = stored(folder.root, "base"), whole(folder, tmp_path / "scratch")
    one, two = Scaled(scaled), Between(between, *ends)
    tuned, start = logits(scaled), logits(between)
    for alpha in (0.0, 0.4, 1.0):
        one.at(alpha)
        two.at(alpha)
        torch.testing.assert_close(logits(scaled), logits(between), rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(scaled), tuned)
    one.at(0.0)
    assert torch.equal(logits(scaled), start)


def test_ends_are_what_eval_measures(base: Path, probe: Path, done: Done, tmp_path: Path) -> None:
    found = call(done.folder, steps=2, rows=500, general_data=str(probe))
    data = done.folder / "data"
    parts = [row["part"] for row in json.loads((data / "manifest.json").read_text())["rows"]]
    held = [row for row, part in zip(job.orders(), parts, strict=True) if part == "validation"]
    assert found.task is not None
    assert found.task["rows"] == len(held)
    rows = job.write_rows(tmp_path / "held.jsonl", held)
    for point, model in ((found.points[0], base), (found.points[-1], done.folder)):
        for metric, file, value in (
            ("perplexity", str(rows), point.task),
            ("bits_per_byte", str(probe), point.general),
        ):
            measured = evaluate([str(model)], file, metrics=[metric], emit=lambda event: None)
            assert measured.metrics[0]["scores"][str(model)]["value"] == pytest.approx(value, rel=1e-5)


def test_the_test_rows_stay_closed(done: Done, probe: Path) -> None:
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    test = Run.open(done.folder).read_json("data/test_accesses.json")
    call(done.folder, general_data=str(probe))
    assert {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()} == before
    assert Run.open(done.folder).read_json("data/test_accesses.json") == test


def test_only_validation_rows_are_measured(done: Done, probe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sartor.data.dataset import Dataset

    parts = [row["part"] for row in json.loads((done.folder / "data/manifest.json").read_text())["rows"]]
    read: set[int] = set()
    inner = Dataset.__getitem__

    def seen(self: Dataset, index: int) -> object:
        if len(self) == len(parts):
            read.add(index)
        return inner(self, index)

    monkeypatch.setattr(Dataset, "__getitem__", seen)
    call(done.folder, general_data=str(probe))
    assert read
    assert {parts[index] for index in read} == {"validation"}


def test_what_is_written_is_what_was_measured(done: Done, tmp_path: Path) -> None:
    assert call(done.folder, write=0.5, out=tmp_path / "half").alpha == 0.5
    half = opened(tmp_path / "half")
    folder = resolve(str(done.folder), tmp_path)
    assert resolve(str(tmp_path / "half"), tmp_path).kind == folder.kind
    start = folder.base or resolve(json.loads((folder.path / "sartor.json").read_text())["base_path"], tmp_path)
    reference = load(start)
    Between(reference, stored(start, "base"), whole(folder, tmp_path / "scratch")).at(0.5)
    torch.testing.assert_close(logits(half), logits(reference), rtol=1e-4, atol=1e-5)
    lineage = json.loads((tmp_path / "half/sartor.json").read_text())["interpolated"]
    assert lineage["alpha"] == 0.5
    assert lineage["tuned"]["path"] == str(folder.path)
    call(done.folder, write=0.0, out=tmp_path / "none")
    assert torch.equal(logits(opened(tmp_path / "none")), logits(load(start)))
    call(done.folder, write=1.0, out=tmp_path / "all")
    assert torch.equal(logits(opened(tmp_path / "all")), logits(load(folder)))


def test_the_best_is_written_and_told(
    done: Done, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "interpolate",
        str(done.folder),
        "--steps",
        "3",
        "--rows",
        "6",
        "--write",
        "best",
        "--out",
        str(tmp_path / "o"),
    ]
    assert run([*words, "--html", str(tmp_path / "page.html"), "--drop-at-most", "100", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [point["alpha"] for point in body["points"]] == [0, 0.5, 1]
    best = min(body["points"], key=lambda point: point["task"])
    assert best["front"]
    assert body["recommended"] == body["alpha"] == best["alpha"]
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert body["written"] == str(tmp_path / "o")
    assert run(words) == 2, "the folder is not overwritten"
    assert run([*words[:6], "--task", "json_valid", "--general", "exact_match", "--general-data", str(probe)]) == 0
    assert "take alpha" in capsys.readouterr().out


def test_what_cannot_be_is_refused(base: Path, done: Done, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="M192"):
        call(done.folder, write=0.5)
    with pytest.raises(ModelError, match="M192"):
        call(done.folder, out=tmp_path / "out")
    with pytest.raises(RecipeError, match="R140"):
        call(done.folder, task="nonsense")
    with pytest.raises(RunError, match="F104"):
        call(base)
    for alpha in ("2", "-1", "much"):
        assert run(["interpolate", str(done.folder), "--write", alpha, "--out", str(tmp_path / "x")]) == 2


def test_labels_are_those_of_the_training_rows(base: Path, tmp_path: Path) -> None:
    goal = {"task": "classify", "statement": "An order goes in, its colour comes out"}
    done = job.finish(
        tmp_path / "labels",
        job.recipe(base, goal=goal, evaluate={"metrics": ["accuracy", "perplexity"], "against": ["base"]}),
        rows=job.labelled(),
    )
    found = call(done.folder, drop_at_most=100, steps=2)
    assert found.task is not None
    assert found.task["metric"] == "accuracy"
    assert found.task["share"]
    assert all(0 <= point.task <= 1 for point in found.points)


def test_a_run_without_validation_rows_is_refused(base: Path, tmp_path: Path) -> None:
    body = job.recipe(
        base, method="full", data={"sources": ["orders.jsonl"], "split": {"train": 0.8, "validation": 0, "test": 0.2}}
    )
    recipe = job.write(tmp_path, body)
    ran = run_recipe(recipe, tmp_path / "out", [], (), lambda event: None)
    with pytest.raises(DataError, match="D116"):
        call(ran.folder)
