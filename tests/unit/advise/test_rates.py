"""The learning rate that is chosen: by the size of the model for every method, and no larger than a new head bears."""

from __future__ import annotations

import pytest

from sartor import registry
from sartor.advise.settings import HEAD_RATE, _of_objective
from sartor.methods import _rates

METHODS = registry.names("method")


@pytest.mark.parametrize("name", METHODS)
def test_it_lies_in_the_range_that_is_not_warned_about_and_never_grows_with_the_model(name: str) -> None:
    module = registry.component("method", name)
    options = module.Options()
    rates = [module.learning_rate(size, options)[0] for size in (10**5, 10**7, 10**8, 7 * 10**9)]
    assert rates == sorted(rates, reverse=True)
    low, high = module.LEARNING_RATE
    assert all(low <= rate <= high for rate in rates), rates


def test_at_seven_billion_it_is_that_of_the_papers() -> None:
    assert _rates.whole(7_000_000_000)[0] == pytest.approx(1e-5)
    assert _rates.low_rank(7_000_000_000, 16)[0] == pytest.approx(1e-4)
    assert _rates.low_rank(7_000_000_000, 64)[0] == pytest.approx(5e-5)


def test_a_head_that_begins_anew_takes_no_more_than_it_bears() -> None:
    assert _of_objective("sft", 0.07, "why") == (0.07, "why")
    rate, why = _of_objective("classify", 0.07, "why")
    assert rate == HEAD_RATE
    assert "7.0e-02" in why
    assert _of_objective("classify", 1e-3, "why") == (1e-3, "why")
