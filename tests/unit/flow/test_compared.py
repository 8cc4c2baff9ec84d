"""What stands beside batches of compared answers: the reference as asked live, and a drift that no packing changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from contract.cases import Case, answers, margins

from sartor import registry
from sartor.engine.parallel.world import ALONE
from sartor.engine.precision import Masters
from sartor.flow.compared import Beside, Sourced, known_of
from sartor.flow.mismatched import Mismatched
from sartor.models.still import Still
from sartor.objectives._answers import KL, REFERENCE, answer_logp
from sartor.options import AUTO
from sartor.recipe.schema import Component
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.source import ALL, StepSize, TokenSource, seated


def material(name: str, units: list[list[Rendered]], *, precompute: Any = True) -> Any:
    """What training knows of a recipe, as far as it is asked here."""
    options = registry.component("objective", name).Options(precompute_reference=precompute)
    rows = tiny.Rows([row for unit in units for row in unit])
    settings = SimpleNamespace(objective=Component(name=name, options=options), micro_tokens=64)
    return SimpleNamespace(settings=settings, tokens={"train": rows, "validation": rows})


def pair_units(count: int) -> list[list[Rendered]]:
    return answers(count, margins)


def known(name: str, units: list[list[Rendered]], base: Any, folder: Path) -> Any:
    return known_of(material(name, units), base, folder, ALONE, lambda: base)


def test_the_reference_is_what_it_would_be_asked_live(tmp_path: Path) -> None:
    units, base = pair_units(9), tiny.policy("llama", seed=3)
    found = known("dpo", units, base, tmp_path)
    assert sorted(path.name for path in (tmp_path / "reference").iterdir()) == ["train.columns", "validation.columns"]
    beside = Beside(material("dpo", units), tiny.policy(), Masters({}), found, None, "train")
    for order in ([4, 0, 7], [8, 1]):
        batches = seated([units[index] for index in order], 80, ALL, share=True)
        for batch in beside(batches):
            live = Still(base).logp(batch)
            assert torch.allclose(batch.columns[REFERENCE], live, atol=2e-5)


def test_it_is_read_again_and_left_alone_where_it_is_not_wanted(tmp_path: Path) -> None:
    units, base = pair_units(3), tiny.policy("llama", seed=3)
    first = known("dpo", units, base, tmp_path)
    again = known_of(material("dpo", units), tiny.policy("llama", seed=9), tmp_path, ALONE, pytest.fail)
    assert again is not None
    assert np.array_equal(first["train"].values, again["train"].values)
    for precompute in (False, AUTO):
        assert (
            known_of(material("dpo", units, precompute=precompute), base, tmp_path / "other", ALONE, pytest.fail)
            is None
        )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto"])
def test_training_with_it_is_training_with_a_second_model(name: str, tmp_path: Path) -> None:
    case = Case(registry.component("objective", name), "preference")
    units, base = pair_units(8), tiny.policy("llama", seed=3)
    losses = []
    for mode in ("known", "live"):
        policy = case.policy("llama", seed=1)
        made = known(name, units, base, tmp_path) if mode == "known" else None
        reference = None if made else Still(base)
        beside = Beside(material(name, units), policy, Masters({}), made, reference, "train")
        source = TokenSource(
            tiny.Rows([row for unit in units for row in unit]),
            size=StepSize(examples=4), micro_tokens=90, seed=1, epochs=1.0, together=True, share=True,
        )  # fmt: skip
        taken = source if beside.idle else Sourced(source, beside)
        roles = {} if made else {"reference": reference}
        total = 0.0
        while taken.done < taken.steps:
            for batch in taken.take().batches:
                total += float(case.objective.loss(policy, batch, case.options(), **roles).total.detach())
        losses.append(total)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_drift_does_not_depend_on_micro_batches(tmp_path: Path) -> None:
    """The same estimate in one batch, in many, and by the definition."""
    units = pair_units(10)
    policy, base = tiny.policy("llama", seed=1), tiny.policy("llama", seed=3)
    rows = [row for unit in units for row in unit]
    other = Mismatched(tiny.Rows(rows), 64)
    with torch.no_grad():
        batch = collate([other[place] for place in range(len(rows))])
        expected = max(0.0, float((answer_logp(policy, batch) - answer_logp(base, batch)).mean()))
    made = known("kto", units, base, tmp_path)
    for share in (False, True):
        beside = Beside(material("kto", units), policy, Masters({}), made, None, "train")
        for size in (40, 10_000):
            batches = beside(seated(units, size, ALL, share=share))
            drifts = torch.cat([each.columns[KL] for each in batches])
            assert drifts.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    swapped = Beside(material("kto", units), base, Masters({}), None, Still(policy), "train")
    (whole,) = swapped(seated(units, 10_000, ALL))
    assert float(whole.columns[KL][0]) >= 0.0


def test_a_mismatched_answer_is_another_rows_and_fits() -> None:
    def row(index: int, prompt: int, answer: list[int]) -> Rendered:
        ids = np.array([5] * prompt + answer, np.int32)
        return Rendered(ids, np.array([0.0] * prompt + [1.0] * len(answer), np.float32), index)

    rows = tiny.Rows([row(0, 3, [7, 8]), row(0, 3, [9]), row(1, 2, [7, 8]), row(2, 4, list(range(10, 30)))])
    other = Mismatched(rows, 12)
    assert other[0].ids.tolist() == list(range(18, 30)), "no answer that is another one fits: the beginning is left out"
    assert other[1].ids.tolist() == [5, 5, 5, 7, 8]
    assert other[2].ids.tolist() == [5, 5, 9], "the long answer does not fit, the equal one is not another"
    assert other[3].ids.tolist() == [5, 5, 5, 5, 7, 8]
    assert other[3].weight.tolist() == [0, 0, 0, 0, 1, 1]
    assert other[2].row == 1
