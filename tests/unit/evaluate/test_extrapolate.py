"""Power laws through measured points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from sartor.evaluate.extrapolate import fit

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])


def test_a_law_without_noise_is_found_again() -> None:
    law = fit(SIZES, 0.1 + 3.0 * SIZES**-0.5)
    assert law.at(3200) == pytest.approx(0.1 + 3.0 * 3200**-0.5, rel=2e-3)


def test_with_noise_it_is_the_least_squares_of_scipy() -> None:
    random = np.random.default_rng(5)
    errors = 0.2 + 4.0 * SIZES**-0.4 + random.normal(0, 0.005, len(SIZES))
    (floor, scale, exponent), _ = curve_fit(
        lambda n, a, b, c: a + b * n**-c, SIZES, errors, p0=(0.1, 1.0, 0.5), maxfev=20000
    )
    assert fit(SIZES, errors).at(3200) == pytest.approx(floor + scale * 3200**-exponent, abs=2e-3)


@pytest.mark.parametrize("errors", [[0.3] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], [0.0] * 5])
def test_errors_that_do_not_fall_stay_where_they_are(errors: list[float]) -> None:
    law = fit(SIZES, np.array(errors))
    assert law.at(3200) <= law.at(1600) + 1e-12
    assert 0 <= law.at(1e9) <= max(errors)


def test_two_sizes_are_no_curve() -> None:
    with pytest.raises(ValueError, match="3 different sizes"):
        fit(np.array([1.0, 2.0, 2.0]), np.array([0.3, 0.2, 0.2]))
