"""The arithmetic of benchmarks/train.py: rates, medians, ratios, necessary operations, and rows that fill their packs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "_train"


def part(name: str) -> ModuleType:
    """A file of the benchmark as a module; dataclasses look theirs up by name."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


figures, work = part("figures"), part("work")
FOUND = {
    "step_seconds": [1.0, 3.0],
    "cpu_seconds": 8.0,
    "peak_before": {"bfloat16": 200.0, "float32": 50.0},
    "peak_after": {"bfloat16": 100.0, "float32": 300.0},
    "memory_bytes": 7,
    "first_step_seconds": 2.0,
    "warm_seconds": 3.0,
    "losses": [5.0, 4.0],
}


def shown(rate: float, memory: float = 1.0) -> dict[str, float]:
    return {**dict.fromkeys(figures.COMPARED, 1.0), "tokens_per_second": rate, "memory_bytes": memory}


def test_rates_are_totals_over_the_measured_seconds_and_the_peak_is_the_mean_of_before_and_after() -> None:
    found = figures.figures(FOUND, tokens=80, supervised=20, flops=500.0)
    assert found["tokens_per_second"] == 20.0
    assert found["supervised_per_second"] == 5.0
    assert found["tokens_per_cpu_second"] == 10.0
    assert found["matrix_peak"] == 250.0
    assert found["mfu"] == pytest.approx(500 / 4 / 250)
    assert found["last_loss"] == 4.0


def test_ratios_are_medians_of_the_quotients_within_rounds() -> None:
    rounds = {"sartor": [shown(6), shown(20), shown(9)], "peer": [shown(2), shown(4), shown(9)]}
    assert figures.ratios(rounds)["sartor/peer"]["tokens_per_second"] == 3.0


def test_a_round_in_which_one_failed_gives_no_quotient() -> None:
    rounds = {"sartor": [shown(6), None, shown(8)], "peer": [None, shown(4), shown(2)], "broken": [None]}
    assert figures.ratios(rounds)["sartor/peer"]["tokens_per_second"] == 4.0
    assert "sartor/broken" not in figures.ratios(rounds)
    assert figures.medians([None, shown(3), shown(5)])["tokens_per_second"] == 4.0
    assert figures.medians([None]) is None


def test_the_spread_of_losses_is_relative_to_the_smallest() -> None:
    assert figures.spread({"a": 10.0, "b": 10.5, "c": 10.2}) == pytest.approx(0.05)


def test_necessary_operations_of_one_row_counted_by_hand() -> None:
    config = {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 10,
    }
    weights = 4 * 4 + 4 * 4 + 4 * 2 + 4 * 2 + 3 * 4 * 8
    trunk, attention, head = 2 * 3 * weights, 2 * 4 * 9, 2 * 2 * 4 * 10
    updates = 2 * 3 * work.RANK * (8 + 8 + 6 + 6 + 3 * 12)
    assert work.flops(config, [3], 2, "full") == 3 * (trunk + attention + head)
    assert work.flops(config, [3], 2, "lora") == 2 * (trunk + head) + 3 * (attention + updates)


def test_rows_of_every_step_fill_the_packs_and_keep_the_mean() -> None:
    shape = work.SHAPES["15m"]
    lengths = work.draw_lengths(shape, 40, np.random.default_rng(1))
    steps = [lengths[start : start + shape.rows] for start in range(0, len(lengths), shape.rows)]
    assert {work.best_fit(step, shape.sequence) for step in steps} == {shape.sequences}
    assert 180 < np.mean(lengths) < 230
    assert max(lengths) <= work.LONGEST


def test_best_fit_takes_the_fullest_bin_that_has_room() -> None:
    assert work.best_fit([6, 5, 3, 4, 2], 10) == 2
    assert work.best_fit([6, 6, 6], 10) == 3
