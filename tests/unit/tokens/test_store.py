import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.tokens.batch import Rendered
from sartor.tokens.store import TokenSet

WEIGHTS = st.sampled_from([0.0, 1.0, 0.1, 1 / 3, 2.0])


@st.composite
def rendered(draw):
    weights = draw(st.lists(WEIGHTS, min_size=1, max_size=20))
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=len(weights), max_size=len(weights)))
    return Rendered(np.array(ids, np.int32), np.array(weights, np.float32), draw(st.integers(0, 10**12)))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(rendered(), max_size=6))
def test_rows_come_back_exactly(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("tokens")
    TokenSet.write(iter(rows), folder)
    stored = TokenSet.open(folder)
    assert len(stored) == len(rows)
    assert stored.tokens == sum(map(len, rows))
    assert stored.supervised == sum(row.supervised for row in rows)
    assert stored.lengths.tolist() == [len(row) for row in rows]
    assert stored.lengths.dtype == np.int64
    assert stored.rows.tolist() == [row.row for row in rows]
    for got, want in zip(stored, rows, strict=True):
        assert got.row == want.row
        assert got.ids.dtype == np.int32
        assert got.weight.dtype == np.float32
        assert np.array_equal(got.ids, want.ids)
        assert np.array_equal(got.weight, want.weight)
    with pytest.raises(IndexError):
        stored[len(rows)]


def test_a_failed_write_leaves_nothing_that_opens(tmp_path):
    one = Rendered(np.array([1, 2], np.int32), np.ones(2, np.float32), 0)
    TokenSet.write([one], tmp_path)

    def broken():
        yield one
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        TokenSet.write(broken(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        TokenSet.open(tmp_path)


def test_memory_stays_small(tmp_path):
    import tracemalloc

    def many():
        for row in range(2000):
            yield Rendered(np.arange(1000, dtype=np.int32), np.ones(1000, np.float32), row)

    tracemalloc.start()
    stored = TokenSet.write(many(), tmp_path)
    assert stored[1999].ids[999] == 999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stored.tokens == 2_000_000
    assert peak < 1_000_000
