"""Where the second text of a pair begins, and what an epoch's random choices depend on, travel with the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny

from sartor.tokens.batch import Rendered, alone, collate, collate_shared
from sartor.tokens.source import StepSize, TokenSource
from sartor.tokens.store import TokenSet


def pairs() -> list[Rendered]:
    """Rows of which every other one is a pair."""
    return [Rendered(row.ids, row.weight, row.row, second=row.row % 2 * 2) for row in tiny.rows(6)]


def test_a_token_set_keeps_them(tmp_path: Path) -> None:
    kept = TokenSet.write(iter(pairs()), tmp_path)
    assert [kept[index].second for index in range(6)] == [0, 2, 0, 2, 0, 2]


def test_a_batch_has_one_for_every_row() -> None:
    rows = pairs()
    for batch in (collate(rows), collate_shared(rows)):
        assert batch.second.tolist() == [row.second for row in rows]
        assert batch.to("cpu").second.tolist() == [row.second for row in rows]
    assert [int(part.second) for part in alone(collate(rows))] == [row.second for row in rows]


def test_random_choices_are_new_in_every_epoch_and_the_same_after_a_resume() -> None:
    def source() -> TokenSource:
        return TokenSource(tiny.Rows(pairs()), size=StepSize(examples=3), micro_tokens=30, seed=4, epochs=2.0)

    whole = source()
    seen = [{batch.draw for batch in whole.take().batches} for _ in range(4)]
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert all(len(each) == 1 for each in seen)
    resumed = source()
    resumed.restore({"epoch": 1, "cursor": 1, "done": 3})
    assert {batch.draw for batch in resumed.take().batches} == seen[3]
    assert np.unique([batch.draw for batch in resumed.again(5).batches]).tolist() == list(seen[3])
