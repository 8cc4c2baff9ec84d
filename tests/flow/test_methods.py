"""Every method through a whole run: the recipe names it, the verdict is there, and the model that was saved answers alike."""

from __future__ import annotations

from pathlib import Path

import job
import pytest

from sartor import registry
from sartor.flow.run import run
from sartor.models.catalog import resolve
from sartor.models.load import load

NAMES = [name for name in registry.names("method") if not hasattr(registry.component("method", name), "HEADED")]


def quiet(event: object) -> None:
    """Shows nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("method", NAMES)
def test_a_run_with_it_ends_with_a_verdict_and_a_model(method: str, tmp_path: Path) -> None:
    module = registry.component("method", method)
    if hasattr(module, "NEEDS"):
        pytest.importorskip(module.NEEDS[0], reason=f'needs the extra "{module.NEEDS[1]}"', exc_type=ImportError)
    recipe = job.recipe(
        job.save_model(tmp_path / "model"),
        train={"steps": 4, "neftune": 5, "gradient_checkpointing": True},
        evaluate={"against": ["base"], "metrics": ["perplexity", "exact_match"], "rows": 8},
    )
    ran = run(job.write(tmp_path, recipe), tmp_path / "run", (f"method={method}",), (), quiet)
    assert set(ran.verdict["scores"]) == {"base", "tuned"}
    folder = resolve(str(ran.folder), tmp_path)
    assert folder.kind == module.SAVES
    policy = load(folder)
    assert (policy.adapter is not None) == (module.SAVES == "adapter")
