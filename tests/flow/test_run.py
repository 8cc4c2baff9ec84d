"""`sartor run` on a tiny model: what is in the folder, what the verdict says, and what happens when it is run again."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import job
import numpy as np
import pytest
import torch
import yaml
from job import Done, finish

from sartor.errors import DataError, InputError, Interrupted, ModelError, RecipeError, RunError
from sartor.events import Noted
from sartor.flow.check import check
from sartor.flow.run import _fingerprint, run
from sartor.recipe.load import load
from sartor.store import atomic
from sartor.store.run import Run, find


def quiet(event: object) -> None:
    """Shows nothing."""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every safetensors file of a run's model."""
    found = {path.name: path.read_bytes() for path in (folder / "model").glob("*.safetensors")}
    assert found
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


FILES = (
    "recipe.yaml",
    "resolved.yaml",
    "environment.json",
    "events.jsonl",
    "data/manifest.json",
    "data/dropped.jsonl",
    "data/findings.json",
    "data/report.html",
    "stages/0-sft/checkpoints/best",
    "predictions/base.jsonl",
    "predictions/few_shot.jsonl",
    "predictions/tuned.jsonl",
    "report.html",
    "model_card.md",
    "verdict.json",
)


class TestFolder:
    def test_it_holds_everything_the_contract_names(self, lora: Done) -> None:
        missing = [name for name in FILES if not (lora.folder / name).is_file()]
        assert missing == []
        left_over = [
            path.name for path in lora.folder.rglob("*") if path.name.startswith(".tmp") or path.suffix == ".part"
        ]
        assert left_over == []

    def test_no_weights_but_safetensors(self, lora: Done, full: Done) -> None:
        for done in (lora, full):
            suffixes = {path.suffix for path in done.folder.rglob("*") if path.is_file()}
            assert not suffixes & {".bin", ".pt", ".pth", ".pkl"} - {".bin"}
            assert all("tokens" in path.parts for path in done.folder.rglob("*.bin"))

    def test_the_recipe_is_kept_as_written(self, lora: Done) -> None:
        assert (lora.folder / "recipe.yaml").read_text() == lora.recipe.read_text()

    def test_the_environment_names_code_libraries_hardware_and_seeds(self, lora: Done) -> None:
        told = json.dumps(read(lora.folder / "environment.json"))
        for word in ("torch", "transformers", "sartor", "seeds", "processor", "python"):
            assert word in told.lower(), word

    def test_report_and_card_count_every_row_that_was_left_out(self, model: Path, tmp_path: Path) -> None:
        rows = job.labelled()
        copies = [{**row, "text": f"  {row['text']}"} for row in rows[:5]]
        job.write_rows(tmp_path / "bench.jsonl", [{"prompt": row["text"]} for row in rows[40:43]])
        data = {
            "sources": ["orders.jsonl"],
            "clean": ["whitespace", {"duplicates": 1.0}],
            "augment": ["random_edit"],
            "against": ["bench.jsonl"],
            "on_leak": "drop",
        }
        train = {"steps": 2, "class_weights": "balanced"}
        body = job.recipe(
            model, data=data, goal={"task": "classify"}, train=train, evaluate={"metrics": ["accuracy"], "rows": 4}
        )
        done = finish(tmp_path, body, rows=[*rows, *copies])
        left_out = Counter(row["rule"] for row in lines(done.folder / "data/dropped.jsonl"))
        assert (left_out["clean.duplicates"], left_out["leak"]) == (5, 2), "one of the three is a test row"
        card = (done.folder / "model_card.md").read_text(encoding="utf-8")
        assert f"Left out, {left_out.total()} rows in all:" in card
        assert "- 5 rows, clean.duplicates: says the same as a row that is kept" in card
        assert "- 2 rows, leak: asks the same as bench.jsonl" in card
        assert "whitespace 5." in card
        assert re.search(r"[1-9]\d* by random_edit from ", card)
        report = (done.folder / "report.html").read_text(encoding="utf-8")
        assert f"{left_out.total()} in all" in report
        for told in ("clean.duplicates", "leak", "whitespace", "random_edit"):
            assert f"<code>{told}</code>" in report
        assert len(lines(done.folder / "data/changed.jsonl")) == 5
        page = (done.folder / "data/report.html").read_text(encoding="utf-8")
        assert '"copies":{"rows":0,' in page, "made rows are no copies"
        told = [event.message for event in done.events if isinstance(event, Noted) and event.code == "N414"]
        assert [f"; {left_out.total()} left out" in message for message in told] == [True]

    def test_the_manifest_gives_every_row_a_hash_and_a_part(self, lora: Done) -> None:
        rows = read(lora.folder / "data/manifest.json")["rows"]
        assert len(rows) == 72
        parts = [row["part"] if isinstance(row, dict) else row[-1] for row in rows]
        assert {"train", "validation", "test"} <= set(map(str, parts)) or set(parts) == {0, 1, 2}

    def test_predictions_are_of_the_same_locked_rows(self, lora: Done) -> None:
        files = {name: lines(lora.folder / f"predictions/{name}.jsonl") for name in ("base", "few_shot", "tuned")}
        ids = {name: [row["id"] for row in rows] for name, rows in files.items()}
        assert ids["base"] == ids["few_shot"] == ids["tuned"]
        for rows in files.values():
            for row in rows:
                assert {"id", "prompt", "prediction", "reference", "nll", "tokens"} <= row.keys()
        known = {row["prompt"]: row["completion"] for row in job.orders()}
        for row in files["base"]:
            asked = next(prompt for prompt in known if prompt in row["prompt"])
            assert row["reference"] == known[asked]
        assert any(
            few["prompt"] != plain["prompt"] or few["nll"] != plain["nll"]
            for few, plain in zip(files["few_shot"], files["base"], strict=True)
        )

    def test_test_rows_are_opened_once_for_each_model(self, lora: Done) -> None:
        opened = read(lora.folder / "data/test_accesses.json")
        assert [access["model"] for access in opened] == ["base", "few_shot", "tuned"]

    def test_the_log_tells_the_stages_in_order(self, lora: Done) -> None:
        log = lines(lora.folder / "events.jsonl")
        stages = [event["name"] for event in log if event["event"] == "stage"]
        assert stages == ["data", "baseline", "train", "evaluate", "verdict"]
        steps = [event["step"] for event in log if event["event"] == "step"]
        assert steps == list(range(1, 41))
        assert [event["state"] for event in log if event["event"] == "run"] == ["created", "running", "finished"]

    def test_deleting_checkpoints_keeps_the_run_valid(self, lora: Done, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(lora.folder, copy)
        shutil.rmtree(copy / "stages")
        again = run(lora.recipe, copy, (), (), quiet)
        assert again.resumed_finished
        assert again.verdict == lora.ran.verdict

    def test_the_model_folder_is_sealed(self, lora: Done) -> None:
        seal = atomic.seal(lora.folder / "model")
        assert "adapter_model.safetensors" in seal["files"]
        assert all((lora.folder / "model" / name).exists() for name in seal["files"])


class TestVerdict:
    def test_its_shape(self, lora: Done) -> None:
        verdict = read(lora.folder / "verdict.json")
        assert verdict["pass"] is True
        assert set(verdict["scores"]) == {"base", "few_shot", "tuned"}
        for gate in verdict["gates"]:
            assert {"metric", "rule", "value", "low", "high", "pass"} <= gate.keys()
        train = verdict["train"]
        for key in ("steps", "tokens", "supervised_tokens", "seconds", "tokens_per_second", "peak_memory_bytes"):
            assert train[key] > 0, key
        assert train["supervised_tokens"] < train["tokens"]
        assert Path(verdict["model"]) == (lora.folder / "model").resolve()

    def test_tuned_is_better_than_base_by_more_than_chance(self, lora: Done) -> None:
        metric = next(metric for metric in lora.ran.comparison["metrics"] if metric["name"] == "perplexity")
        difference = metric["differences"]["base"]
        assert difference["high"] < 0
        assert difference["low"] <= difference["value"] <= difference["high"]
        assert difference["word"] == "better"
        scores = lora.ran.verdict["scores"]
        assert difference["value"] == pytest.approx(scores["tuned"]["perplexity"] - scores["base"]["perplexity"])

    def test_scores_are_those_of_the_predictions(self, lora: Done) -> None:
        for name, scores in lora.ran.verdict["scores"].items():
            rows = lines(lora.folder / f"predictions/{name}.jsonl")
            nll, tokens = sum(row["nll"] for row in rows), sum(row["tokens"] for row in rows)
            assert scores["perplexity"] == pytest.approx(float(np.exp(nll / tokens)))

    def test_report_and_card_tell_the_metrics(self, lora: Done) -> None:
        for name in ("report.html", "model_card.md", "model/README.md"):
            text = (lora.folder / name).read_text()
            assert "perplexity" in text, name
            assert "json_valid" in text, name
            assert "An order in words goes in" in text, name
        report = (lora.folder / "report.html").read_text()
        assert not re.search(r"(src|href)=[\"']https?://", report)

    def test_a_failing_gate_decides_the_exit_code_and_keeps_the_run(self, model: Path, tmp_path: Path) -> None:
        success = [{"metric": "json_valid", "at_least": 0.99}, {"metric": "perplexity", "better_than": "base"}]
        goal = {"task": "generate", "success": success}
        body = job.recipe(model, goal=goal, train={"steps": 2}, evaluate={"against": ["base"]})
        done = finish(tmp_path, body)
        assert done.ran.exit_code == 1
        assert done.ran.verdict["pass"] is False
        assert done.ran.verdict["gates"][0]["pass"] is False
        assert done.again().exit_code == 1
        assert not (done.folder / "predictions/few_shot.jsonl").exists()

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_training_that_does_not_help_ends_at_the_base_and_says_so(
        self, method: str, model: Path, tmp_path: Path
    ) -> None:
        train = {"steps": 4, "stop": {"min_delta": 10.0}}
        evaluate = {"against": ["base"], "metrics": ["perplexity"]}
        done = finish(tmp_path, job.recipe(model, train=train, evaluate=evaluate, method=method))
        assert done.ran.verdict["train"]["best_step"] == 0
        scores = done.ran.verdict["scores"]
        assert scores["tuned"] == scores["base"]
        assert any(
            event["event"] == "note" and event["code"] == "N413" for event in lines(done.folder / "events.jsonl")
        )

    def test_passing_gates_are_zero(self, lora: Done) -> None:
        assert lora.ran.exit_code == 0
        assert [gate["pass"] for gate in lora.ran.verdict["gates"]] == [True, True]


class TestAgain:
    def test_a_finished_run_is_recognised_and_nothing_is_touched(self, lora: Done) -> None:
        before = snapshot(lora.folder)
        again = lora.again()
        assert again.resumed_finished
        assert again.verdict == lora.ran.verdict
        assert again.comparison == lora.ran.comparison
        assert snapshot(lora.folder) == before

    def test_without_out_the_same_recipe_finds_its_run(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        evaluate = {"against": ["base"], "metrics": ["perplexity"]}
        job.write(tmp_path, job.recipe(model, train={"steps": 1}, evaluate=evaluate))
        first = run(Path("recipe.yaml"), None, (), (), quiet)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_recipe_[0-9a-f]{8}", first.folder.name)
        again = run(Path("recipe.yaml"), None, (), (), quiet)
        assert again.resumed_finished
        assert again.folder.resolve() == first.folder.resolve()
        assert find("latest", tmp_path / "runs").folder.resolve() == first.folder.resolve()
        other = run(Path("recipe.yaml"), None, ("seed=3",), (), quiet)
        assert other.folder.name != first.folder.name

    def test_another_recipe_is_refused_in_a_finished_run(self, lora: Done) -> None:
        before = snapshot(lora.folder)
        with pytest.raises(RunError) as caught:
            lora.again("train.steps=41")
        assert [problem.code for problem in caught.value.problems] == ["F102"]
        assert snapshot(lora.folder) == before

    def test_a_name_or_statement_does_not_make_another_run(self, lora: Done) -> None:
        assert lora.again("goal.statement=Words go in and JSON comes out").resumed_finished

    def test_the_resolved_recipe_is_a_recipe_with_the_same_plan(self, lora: Done) -> None:
        resolved = lora.recipe.parent / "resolved.yaml"
        shutil.copyfile(lora.folder / "resolved.yaml", resolved)
        assert load(resolved).recipe.train.steps == 40
        text = resolved.read_text()
        assert flat(yaml.safe_load(text)).count("auto") == 2, "steps are given, so epochs are not; formats are per file"
        assert re.search(r"epochs: auto|format: auto", text)
        first, second = (check(path, (), quiet).json() for path in (lora.recipe, resolved))
        assert {**second["plan"], "memory_free": 0} == {**first["plan"], "memory_free": 0}
        assert {**second["data"], "findings": []} == {**first["data"], "findings": []}
        values = [{key: entry["value"] for key, entry in checked["settings"].items()} for checked in (first, second)]
        assert values[0] == values[1]


def flat(value: Any) -> list[Any]:
    """All leaves of nested lists and mappings."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in flat(inner)]
    return [leaf for inner in value for leaf in flat(inner)] if isinstance(value, list) else [value]


def test_equal_recipes_give_equal_bits(lora: Done, model: Path, tmp_path: Path) -> None:
    twin = finish(tmp_path, yaml.safe_load(lora.recipe.read_text()))
    assert weights(twin.folder) == weights(lora.folder)
    assert twin.ran.verdict["scores"] == lora.ran.verdict["scores"]
    for name in ("base", "few_shot", "tuned"):
        file = f"predictions/{name}.jsonl"
        assert (twin.folder / file).read_bytes() == (lora.folder / file).read_bytes()


class TestInterrupted:
    """Runs that a fault in the middle has stopped."""

    @pytest.fixture
    def stopped(self, model: Path, tmp_path: Path) -> tuple[Path, Path]:
        """(recipe, folder) of a run that was stopped in training."""
        recipe = job.write(tmp_path, job.recipe(model, train={"steps": 8}, evaluate={"against": ["base"]}))

        def pull(event: Any) -> None:
            if event.kind == "step" and event.step == 5:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted) as caught:
            run(recipe, tmp_path / "out", (), (), pull)
        assert caught.value.exit_code == 130
        assert "same command" in str(caught.value)
        return recipe, tmp_path / "out"

    @pytest.mark.parametrize("count", [80, 24])
    def test_changed_data_is_refused_and_can_be_allowed(self, count: int, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        job.write_rows(recipe.parent / "orders.jsonl", job.orders(count))
        before = snapshot(out)
        with pytest.raises(RunError) as caught:
            run(recipe, out, (), (), quiet)
        (problem,) = caught.value.problems
        assert problem.code == "F120"
        assert "orders.jsonl" in problem.what
        assert "--allow-change data.orders.jsonl" in str(problem.fix)
        assert snapshot(out) == before
        again = run(recipe, out, (), ("data.orders.jsonl",), quiet)
        assert again.verdict["train"]["steps"] == 8
        assert any(event["event"] == "note" and event["code"] == "F122" for event in lines(out / "events.jsonl"))

    def test_a_changed_setting_is_refused_by_name(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        with pytest.raises(RunError) as caught:
            run(recipe, out, ("train.clip_norm=0.5", "seed=4"), (), quiet)
        said = {problem.code: problem.what for problem in caught.value.problems}
        assert set(said) == {"F120"}
        assert len(caught.value.problems) == 2
        assert any("train.clip_norm was 1.0" in problem.what for problem in caught.value.problems)

    def test_resuming_repeats_no_finished_work(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        base = (out / "predictions/base.jsonl").stat().st_mtime_ns
        taken = [event["step"] for event in lines(out / "events.jsonl") if event["event"] == "step"]
        run(recipe, out, (), (), quiet)
        assert (out / "predictions/base.jsonl").stat().st_mtime_ns == base
        after = [event["step"] for event in lines(out / "events.jsonl") if event["event"] == "step"][len(taken) :]
        assert after == list(range(after[0], 9))
        assert after[0] > 1

    @pytest.mark.parametrize(
        ("change", "key"),
        [
            ("method.lora.rank=4", "method.lora.rank"),
            ("train.optimizer={sgd: {learning_rate: 0.02}}", "train.optimizer"),
        ],
    )
    def test_what_would_not_fit_the_checkpoints_cannot_be_allowed(
        self, change: str, key: str, stopped: tuple[Path, Path]
    ) -> None:
        recipe, out = stopped
        with pytest.raises(RunError, match="would not fit it") as caught:
            run(recipe, out, (change,), (key,), quiet)
        assert {problem.code for problem in caught.value.problems} == {"F120"}

    def test_an_allowed_learning_rate_goes_on_from_the_checkpoint(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        key = "train.optimizer.adamw.learning_rate"
        assert run(recipe, out, (f"{key}=0.001",), (key,), quiet).verdict["train"]["steps"] == 8
        rates = [event["learning_rate"] for event in lines(out / "events.jsonl") if event["event"] == "step"]
        assert rates[-1] <= 0.001 < rates[1]

    def test_a_harmless_change_is_accepted(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        again = run(recipe, out, ("train.checkpoint.every=3", "goal.statement=Words in and JSON out"), (), quiet)
        assert again.verdict["train"]["steps"] == 8


class TestRefused:
    """Nothing is written where the input is at fault."""

    @pytest.mark.parametrize(
        ("change", "fault", "code"),
        [
            ({"bas": "x"}, RecipeError, "R102"),
            ({"data": "missing.jsonl"}, DataError, "D113"),
            ({"base": "no/such/folder"}, ModelError, None),
            ({"goal": {"task": "classify"}}, DataError, "D180"),
            ({"train": {"objective": "pretrain"}}, RecipeError, "R106"),
            ({"evaluate": {"metrics": ["nothing.py:here"]}}, InputError, None),
            (
                {
                    "goal": {"success": [{"metric": "bleu", "better_than": "few_shot"}]},
                    "evaluate": {"against": ["base"]},
                },
                RecipeError,
                "R145",
            ),
        ],
        ids=["key", "data", "base", "task", "objective", "metric", "gate"],
    )
    def test_a_faulty_recipe_leaves_no_folder(
        self, change: dict[str, Any], fault: type[InputError], code: str | None, model: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        recipe = job.write(tmp_path, job.recipe(model, **change))
        for out in (None, tmp_path / "out"):
            with pytest.raises(fault) as caught:
                run(recipe, out, (), (), quiet)
            assert caught.value.exit_code == 2
            assert code is None or code in [problem.code for problem in caught.value.problems]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["orders.jsonl", "recipe.yaml"]

    def test_a_bad_row_is_named_by_file_and_line(self, model: Path, tmp_path: Path) -> None:
        recipe = job.write(tmp_path, job.recipe(model))
        with (tmp_path / "orders.jsonl").open("a") as file:
            file.write('{"prompt": "no answer"}\n')
        with pytest.raises(DataError) as caught:
            run(recipe, tmp_path / "out", (), (), quiet)
        assert "orders.jsonl:73" in str(caught.value)
        assert not (tmp_path / "out").exists()

    def test_two_runs_cannot_share_a_folder(self, model: Path, tmp_path: Path) -> None:
        recipe = job.write(tmp_path, job.recipe(model, train={"steps": 2}, evaluate={"against": ["base"]}))
        refused: list[RunError] = []

        def intrude(event: Any) -> None:
            if event.kind == "step" and not refused:
                with pytest.raises(RunError) as caught:
                    run(recipe, tmp_path / "out", (), (), quiet)
                refused.append(caught.value)

        run(recipe, tmp_path / "out", (), (), intrude)
        assert [problem.code for problem in refused[0].problems] == ["F101"]

    def test_a_folder_with_other_things_is_left_alone(self, model: Path, tmp_path: Path) -> None:
        recipe = job.write(tmp_path, job.recipe(model))
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
        with pytest.raises(RunError) as caught:
            run(recipe, out, (), (), quiet)
        assert caught.value.problems[0].code == "F103"
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]


class TestReload:
    """The tuned model is an ordinary model of transformers and PEFT."""

    PROMPT = list(range(10, 40))

    def ours(self, folder: Path) -> torch.Tensor:
        from sartor.models.catalog import resolve
        from sartor.models.load import load as load_model
        from sartor.tokens.batch import Rendered, collate

        policy = load_model(resolve(str(folder / "model"), Path("/")), dtype="float32", device="cpu")
        policy.eval()
        ids = np.asarray(self.PROMPT, np.int32)
        weight = np.ones(len(ids), np.float32)
        weight[0] = 0
        with torch.no_grad():
            return policy.logits(collate([Rendered(ids, weight, 0)]))

    def theirs(self, model: Any) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            logits: torch.Tensor = model(input_ids=torch.tensor([self.PROMPT])).logits[0, :-1].float()
        return logits

    def test_full(self, full: Done, model: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = full.folder / "model"
        theirs = self.theirs(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
        assert torch.allclose(theirs, self.ours(full.folder), atol=1e-4)
        untuned = self.theirs(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32))
        assert not torch.allclose(theirs, untuned, atol=0.1)
        text = AutoTokenizer.from_pretrained(folder).apply_chat_template(
            [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
        )
        assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"

    def test_adapter(self, lora: Done, model: Path) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        untuned = self.theirs(base)
        theirs = self.theirs(PeftModel.from_pretrained(base, lora.folder / "model"))
        assert torch.allclose(theirs, self.ours(lora.folder), atol=1e-4)
        assert not torch.allclose(theirs, untuned, atol=0.1)
        assert read(lora.folder / "model/adapter_config.json")["base_model_name_or_path"] == str(model)

    def test_a_run_is_the_base_of_the_next(self, full: Done, tmp_path: Path) -> None:
        evaluate = {"against": ["base"], "metrics": ["perplexity"]}
        after = finish(tmp_path, job.recipe(full.folder, train={"steps": 2}, evaluate=evaluate))
        before = full.ran.verdict["scores"]["tuned"]["perplexity"]
        assert after.ran.verdict["scores"]["base"]["perplexity"] == pytest.approx(before, rel=1e-4)

    def test_an_adapter_as_base_is_refused_before_anything_is_done(self, lora: Done, tmp_path: Path) -> None:
        with pytest.raises(ModelError) as caught:
            finish(tmp_path, job.recipe(lora.folder))
        assert caught.value.problems[0].code == "M107"
        assert not (tmp_path / "out").exists()


class TestTasks:
    SHORT = {"steps": 10, "validation": {"every": 5}}

    def test_classify(self, model: Path, tmp_path: Path) -> None:
        body = job.recipe(model, goal={"task": "classify"}, train=self.SHORT, method="full")
        body["evaluate"] = {"resamples": 200, "shots": 2}
        done = finish(tmp_path, body, rows=job.labelled())
        assert {"accuracy", "macro_f1"} <= done.ran.verdict["scores"]["tuned"].keys()
        rows = lines(done.folder / "predictions/tuned.jsonl")
        assert all(set(row["label_scores"]) == {"warm", "cold"} for row in rows)
        assert all(row["label"] == max(row["label_scores"], key=row["label_scores"].get) for row in rows)

    def test_labels_need_no_goal(self, model: Path, tmp_path: Path) -> None:
        body = job.recipe(model, train=self.SHORT)
        del body["goal"], body["evaluate"]
        recipe = job.write(tmp_path, body, job.labelled())
        assert check(recipe, (), quiet).data["task"] == "classify"

    def test_pretrain(self, model: Path, tmp_path: Path) -> None:
        body = job.recipe(
            model, goal={"task": "pretrain"}, train=self.SHORT | {"batch": {"tokens": 512}}, method="full"
        )
        body["evaluate"] = {"resamples": 200}
        done = finish(tmp_path, body, rows=job.texts())
        scores = done.ran.verdict["scores"]
        assert set(scores) == {"base", "tuned"}
        assert scores["tuned"]["perplexity"] < scores["base"]["perplexity"]
        assert (done.folder / "stages/0-pretrain/checkpoints/best").exists()

    def test_chat(self, model: Path, tmp_path: Path) -> None:
        body = job.recipe(model, goal={"task": "chat"}, train=self.SHORT, method="full")
        body["evaluate"] = {"resamples": 200, "max_new_tokens": 8, "shots": 1}
        done = finish(tmp_path, body, rows=job.chats())
        scores = done.ran.verdict["scores"]
        assert scores["tuned"]["perplexity"] < scores["base"]["perplexity"]
        assert done.ran.verdict["train"]["supervised_tokens"] > 0

    def test_full(self, full: Done) -> None:
        scores = full.ran.verdict["scores"]
        assert scores["tuned"]["perplexity"] < 0.5 * scores["base"]["perplexity"]
        assert not (full.folder / "model/adapter_config.json").exists()


class TestCommandLine:
    def test_check_does_not_import_torch(self, model: Path, tmp_path: Path) -> None:
        recipe = job.write(tmp_path, job.recipe(model))
        code = (
            "import sys; from sartor.cli.main import run; code = run(sys.argv[1:]); "
            "heavy = {'torch', 'transformers', 'peft', 'sklearn'} & set(sys.modules); "
            "assert not heavy, heavy; sys.exit(code)"
        )
        ended = subprocess.run(
            [job.command()[0], "-c", code, "check", str(recipe), "--json"],
            capture_output=True, text=True, env=job.ENVIRONMENT, cwd=tmp_path, timeout=120,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout)
        assert told["plan"]["steps"] == 12
        assert told["settings"]["train.steps"]["why"].startswith("set in recipe.yaml:")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["orders.jsonl", "recipe.yaml"]

    @pytest.mark.slow
    def test_ctrl_c_saves_and_the_same_command_ends_bit_identical(self, model: Path, tmp_path: Path) -> None:
        goal = {"task": "generate", "success": [{"metric": "json_valid", "at_least": 0.7}]}
        train = {"steps": 80, "validation": {"every": 40}}
        body = job.recipe(model, goal=goal, train=train, evaluate={"against": ["base"]})
        unbroken = finish(tmp_path / "a", body)
        recipe, out = job.write(tmp_path / "b", body), tmp_path / "b/out"
        process = subprocess.Popen(
            job.command("run", recipe, "--out", out, "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=job.ENVIRONMENT,
        )  # fmt: skip
        job.wait_for_step(process, out, 7)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 130, stderr
        assert json.loads(stdout)["error"]["problems"][0]["code"] == "F150"
        assert "Traceback" not in stderr
        assert Run.open(out).state == "interrupted"
        stopped = max(event["step"] for event in lines(out / "events.jsonl") if event["event"] == "step")
        assert 7 <= stopped < 80
        run(recipe, out, (), (), quiet)
        taken = [event["step"] for event in lines(out / "events.jsonl") if event["event"] == "step"]
        assert taken == list(range(1, 81)), "what was saved is not taken again"
        assert weights(out) == weights(unbroken.folder)

        ended = subprocess.run(process.args, capture_output=True, text=True, env=job.ENVIRONMENT, timeout=120)
        assert ended.returncode == 1, ended.stderr
        told, verdict = json.loads(ended.stdout), read(out / "verdict.json")
        assert told["pass"] is False
        assert {key: told[key] for key in verdict} == verdict
        assert Path(told["report"]).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "gpt2", "mistral", "phi3"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_architecture_from_recipe_to_verdict_to_reload(name: str, method: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = job.save_model(tmp_path / "model", name)
    done = finish(tmp_path, job.recipe(base, method=method, train={"steps": 20}))
    scores = done.ran.verdict["scores"]
    assert scores["tuned"]["perplexity"] < scores["base"]["perplexity"]
    look = TestReload()
    folder = done.folder / "model"
    if method == "full":
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    assert torch.allclose(look.theirs(theirs), look.ours(done.folder), atol=1e-4)


def test_components_without_options_still_tell_runs_apart(model: Path, tmp_path: Path) -> None:
    recipe = job.write(tmp_path, job.recipe(model))
    digests = {_fingerprint(load(recipe, (f"train.objective={name}",))).digest for name in ("sft", "pretrain")}
    assert len(digests) == 2
