"""Rows told apart by their losses in models that have and have not seen them."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.data.worth import KINDS, Dynamics, folds, ranked, summary


def planted(count: int = 400) -> tuple[Dynamics, dict[int, str]]:
    """Rows that are learnt from others but not quite, and one of every kind."""
    random = np.random.default_rng(2)
    base = random.uniform(3.0, 4.0, count)
    unseen, seen = random.uniform(0.6, 1.2, count), random.uniform(0.05, 0.2, count)
    kinds = {7: "mislabelled", 50: "unlearnable", 51: "memorised", 52: "redundant"}
    unseen[7], seen[7] = 9.0, 0.3
    base[50], unseen[50], seen[50] = 1.0, 1.0, 0.98
    base[51], unseen[51], seen[51] = 2.5, 2.4, 0.1
    unseen[52], seen[52] = 0.02, 0.01
    return Dynamics(np.stack([base, seen]), np.stack([base, unseen])), kinds


@pytest.mark.parametrize("labelled", [True, False])
def test_every_kind_is_found_and_the_others_are_not(labelled: bool) -> None:
    dynamics, kinds = planted()
    found = dynamics.kinds(np.zeros(400, np.int32) if labelled else None)
    assert found[7] == "mislabelled"
    assert found[50] == "unlearnable"
    assert found[52] == "redundant"
    assert set(np.flatnonzero(found != "")) <= set(kinds)
    assert sum(summary(found).values()) == (found != "").sum()
    assert set(summary(found)) == set(KINDS)


def test_memorised_rows_are_those_that_only_their_own_models_know() -> None:
    dynamics, _ = planted()
    assert int(np.argmax(np.delete(dynamics.memorisation, 7))) + 1 == 51
    hard = Dynamics(np.full((2, 9), 4.0), np.full((2, 9), 4.0))
    assert set(hard.kinds()) == {"unlearnable"}


def test_suspicion_is_judged_among_rows_of_the_same_label_at_the_best_epoch() -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.array([0, 1], np.int32), 100)
    loss = np.where(group == 0, 0.5, 5.0) + random.normal(0, 0.1, 200)
    loss[3], loss[150] = 5.0, 5.4
    later = loss + 3.0
    dynamics = Dynamics(np.zeros((3, 200)), np.stack([np.full(200, 9.0), loss, later]))
    assert dynamics.best == 1
    assert ranked(dynamics.suspicion(group))[0] == 3, "5.0 is usual for the other label"
    assert dynamics.suspicion()[150] > dynamics.suspicion()[3], "without labels it is only a high loss"


def test_folds_keep_clusters_together_and_do_not_depend_on_the_order() -> None:
    random = np.random.default_rng(4)
    cluster = random.integers(0, 120, 400).astype(np.int32)
    content, tokens = random.integers(1, 2**63, 400).astype(np.uint64), random.integers(5, 90, 400)
    fold = folds(cluster, content, tokens, 3, seed=1)
    assert all(len(set(fold[cluster == number])) == 1 for number in set(cluster))
    load = np.bincount(fold, tokens)
    assert load.max() / load.min() < 1.1
    order = random.permutation(400)
    assert (folds(cluster[order], content[order], tokens[order], 3, seed=1) == fold[order]).all()
    assert (folds(cluster, content, tokens, 3, seed=2) != fold).any()
