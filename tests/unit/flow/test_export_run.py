"""Exports of a recipe: certificates are gates, and what cannot be exported is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import job
import pytest

from sartor.errors import RecipeError
from sartor.evaluate.verdict import Decided, Verdict
from sartor.export.certificate import Certificate, Check, unopened
from sartor.flow.check import check
from sartor.flow.export import Artifact, Exported
from sartor.flow.export_run import bodies, with_exports

PASSED = Decided("perplexity", "better_than base", -1.0, -2.0, -0.5, True, "better")
COMPARISON: dict[str, Any] = {"rows": 3}


def of(*checks: Check) -> Exported:
    found = Certificate("merged", "float32", "transformers", checks, {"comparison": COMPARISON})
    state = "certified" if found.passed else "failed"
    return Exported("run", (Artifact("merged", Path("merged"), state, found),))


def test_a_certificate_is_a_gate() -> None:
    verdict = Verdict((PASSED,), {}, "The tuned model is better.")
    assert with_exports(verdict, None) is verdict
    good = with_exports(verdict, of(Check("KL max", "1e-9", "at most 1", True)))
    assert good.passed
    assert [gate.metric for gate in good.gates] == ["perplexity", "export merged"]
    bad = with_exports(verdict, of(*unopened("it is torn")))
    assert not bad.passed
    assert "merged" in bad.sentence
    assert "it is torn" in bad.gates[1].note


def test_the_report_shows_what_was_certified() -> None:
    (body,) = bodies(of(*unopened("it is torn")))
    assert body["title"] == "Export: merged"
    assert "FAILED" in body["why"]
    assert body["comparison"] is COMPARISON
    assert list(bodies(None)) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("exports") / "model")


@pytest.mark.parametrize(
    ("override", "what"),
    [
        (("export=[adapter]", "method=full"), "method full trains no adapter"),
        (("export=[gguff]",), 'did you mean "gguf"'),
        (("export=[{merged: {dtype: int3}}]",), "dtype"),
    ],
)
def test_what_cannot_be_exported_is_refused_first(
    override: tuple[str, ...], what: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        check(job.write(tmp_path, job.recipe(model)), override, lambda event: None)
    assert what in str(caught.value)


def test_a_model_with_a_head_is_refused_first(model: Path, tmp_path: Path) -> None:
    body = job.recipe(model, goal={"task": "classify"}, evaluate={"metrics": ["accuracy"], "against": ["base"]})
    body["train"]["objective"] = "classify"
    path = job.write(tmp_path, {**body, "export": ["merged"]}, job.labelled())
    with pytest.raises(RecipeError, match="head of classes"):
        check(path, (), lambda event: None)
