

def test_weighted_kappa_is_scikit_learns() -> None:
    random = np.random.default_rng(5)
    one = random.integers(0, 5, 200)
    other = np.clip(one + random.integers(-1, 2, 200), 0, 4)
    units = confusion_units(np.stack([one, other], axis=1), 5)
    wanted = cohen_kappa_score(one, other, weights="quadratic", labels=range(5))
    assert weighted_kappa(np.asarray(units.sum(axis=0))[None])[0] == pytest.approx(wanted)


def test_correlation_is_scipys() -> None:
    random = np.random.default_rng(6)
    one = random.normal(size=50)
    other = one + random.normal(size=50)
    assert correlation(correlation_units(one, other).sum(axis=0)) == pytest.approx(pearsonr(one, other).statistic)
    found = coefficient("r", ("a", "b"), correlation_units(one, other), correlation)
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    flat = coefficient("r", ("a", "b"), correlation_units(np.ones(9), np.arange(9.0)), correlation)
    assert flat.value is None
