"""From images on disk to a proven vision-text model: checked, trained, measured against its base, asked, opened elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
import seeing
from job import Done

import sartor
from sartor.cli.main import run as command
from sartor.errors import DataError, RecipeError
from sartor.flow.check import check
from sartor.flow.eval import evaluate
from sartor.flow.predict import predict
from sartor.models.catalog import resolve
from sartor.models.kinds import kind_of
from sartor.models.load import load
from sartor.models.vision import VisionPolicy


def quiet(event: object) -> None:
    """Shows nothing."""


def recipe(model: Path, **changes: Any) -> dict[str, Any]:
    body = job.recipe(model, method="full", goal={"task": "generate", "statement": "An image in, its colour out"})
    body["train"] |= {"steps": 50, "optimizer": {"adamw": {"learning_rate": 0.005}}, "validation": {"every": 25}}
    body["evaluate"] |= {"metrics": ["perplexity", "exact_match"], "against": ["base"], "max_new_tokens": 6}
    for key, value in changes.items():
        body[key] = {**body[key], **value} if isinstance(value, dict) and isinstance(body.get(key), dict) else value
    return body


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run that learns colours."""
    root = tmp_path_factory.mktemp("colours")
    model = seeing.save_model(root / "model")
    return job.finish(root, recipe(model), rows=seeing.squares(root, 96))


def test_it_learns_to_see(seen: Done) -> None:
    losses = [event.metrics["loss"] for event in seen.events if type(event).__name__ == "Validated"]  # type: ignore[attr-defined]
    assert losses[-1] < losses[0] / 3
    scores = seen.ran.verdict["scores"]
    assert scores["tuned"]["exact_match"] >= 0.9 > scores["base"]["exact_match"] + 0.5
    assert scores["tuned"]["perplexity"] < scores["base"]["perplexity"]


def test_nothing_of_the_pixels_is_kept_with_the_tokens(seen: Done) -> None:
    folder = seen.folder / "data" / "tokens" / "train"
    told = json.loads((folder / "images.json").read_text())
    assert {len(digest) for _, digest, _, _ in told} == {64}
    assert len(told) == json.loads((folder / "tokens.json").read_text())["rows"]


def test_its_answers_by_the_commands(seen: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = seen.recipe.parent
    monkeypatch.chdir(root)
    rows = [json.loads(line) for line in (root / "orders.jsonl").read_text().splitlines()[:8]]
    ask = seeing.write(root / "ask.jsonl", [{name: row[name] for name in ("image", "question")} for row in rows])
    predicted = predict("out", ask, tmp_path / "answers.jsonl", max_new_tokens=6, emit=quiet)
    assert predicted.rows == 8
    told = [json.loads(line)["prediction"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert told == [row["answer"] for row in rows]
    shown = evaluate(["model", "out"], "orders.jsonl", rows=12, emit=quiet, metrics=["exact_match"])
    (metric,) = shown.metrics
    assert metric["scores"]["out"]["value"] > metric["scores"]["model"]["value"]


def test_it_is_asked_from_python(seen: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(seen.recipe.parent)
    model = sartor.load("out", device="cpu")
    rows = [json.loads(line) for line in Path("orders.jsonl").read_text().splitlines()[:4]]
    prompts = [
        [
            {
                "role": "user",
                "content": [{"type": "image", "path": row["image"]}, {"type": "text", "text": row["question"]}],
            }
        ]
        for row in rows
    ]
    assert model.predict(prompts, max_new_tokens=6) == [row["answer"] for row in rows]
    right, wrong = (model.logprobs(prompts[0], answer).sum() for answer in (rows[0]["answer"], rows[1]["answer"]))
    assert right > wrong
    prompts[0][0]["content"][0] = {"type": "image", "path": "gone.png"}
    with pytest.raises(DataError, match="D133"):
        model.predict(prompts[:1])


def test_the_saved_model_opens_in_plain_transformers(seen: Done) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = seen.folder / "model"
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    row = json.loads((seen.recipe.parent / "orders.jsonl").read_text().splitlines()[3])
    content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    with seeing.Image.open(seen.recipe.parent / row["image"]) as image:
        given = processor(text=[text], images=[image.convert("RGB")], return_tensors="pt")
    told = model.generate(**given, max_new_tokens=6, do_sample=False)
    answer = processor.tokenizer.decode(told[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == row["answer"]


def test_an_image_that_is_gone_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    rows = seeing.squares(tmp_path, 24)
    path = job.write(tmp_path, recipe(seeing.save_model(tmp_path / "model")), rows)
    (tmp_path / rows[5]["image"]).unlink()
    with pytest.raises(DataError, match=r"orders\.jsonl:6.*D133"):
        check(path, (), quiet)
    assert command(["data", "check", str(path)]) == 2


def test_images_for_a_base_that_cannot_see_are_refused(tmp_path: Path) -> None:
    path = job.write(tmp_path, recipe(job.save_model(tmp_path / "model")), seeing.squares(tmp_path, 24))
    assert command(["check", str(path)]) == 2
    with pytest.raises(Exception, match="T240"):
        check(path, (), quiet)


@pytest.mark.parametrize("change", ["method=dora", "train.objective=orpo", "train.vision=trained"])
def test_what_is_not_offered_is_refused_by_name(change: str, tmp_path: Path) -> None:
    model = job.save_model(tmp_path / "model") if "vision" in change else seeing.save_model(tmp_path / "model")
    rows: Any = seeing.squares(tmp_path, 24)
    if "orpo" in change:
        rows = [
            {"image": row["image"], "prompt": row["question"], "chosen": row["answer"], "rejected": "no"}
            for row in rows
        ]
    path = job.write(tmp_path, recipe(model), None if "vision" in change else rows)
    with pytest.raises(RecipeError, match="R106"):
        check(path, (change, *(["goal.task=prefer"] if "orpo" in change else [])), quiet)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "idefics3", "gemma3"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_family_runs_with_every_method(family: str, method: str, tmp_path: Path) -> None:
    model = seeing.save_model(tmp_path / "model", family)
    body = recipe(model, method=method, train={"steps": 6, "vision": "trained", "gradient_checkpointing": True})
    done = job.finish(tmp_path, body, rows=seeing.squares(tmp_path, 40))
    folder = resolve(str(done.folder), tmp_path)
    assert kind_of(folder) == "vision"
    assert folder.kind == ("adapter" if method == "lora" else "model")
    assert isinstance(load(folder), VisionPolicy)


@pytest.mark.slow
def test_preferences_about_images_are_learnt(tmp_path: Path) -> None:
    rows = []
    for row in seeing.squares(tmp_path, 96):
        others = [name for name in seeing.COLOURS if name != row["answer"]]
        rejected = others[len(rows) % len(others)]
        rows.append({"image": row["image"], "prompt": row["question"], "chosen": row["answer"], "rejected": rejected})
    body = recipe(
        seeing.save_model(tmp_path / "model"),
        goal={"task": "prefer", "statement": "The right colour is preferred"},
        train={"objective": "dpo", "steps": 80},
        evaluate={"metrics": ["preference_accuracy"], "against": ["base"]},
    )
    done = job.finish(tmp_path, body, rows=rows)
    scores = done.ran.verdict["scores"]
    assert scores["tuned"]["preference_accuracy"] >= max(0.75, scores["base"]["preference_accuracy"] + 0.15)
