"""Which token is drawn: against the distribution written out, with transformers' own filters of top_k and top_p."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from sartor.generate.rows import Row
from sartor.generate.sampling import Sampling, choose, logp_of

DRAWS = 4000
GRID = (np.arange(DRAWS) + 0.5) / DRAWS


class Grid:
    """A stream whose numbers are evenly spread, so that tokens come out as often as they are likely."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def rows(numbers: np.ndarray = GRID) -> list[Row]:
    return [Row(0, index, np.asarray([1]), 1, Grid(number)) for index, number in enumerate(numbers)]  # type: ignore[arg-type]


def logits(vocabulary: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("vocabulary", [7, 256, 300, 1000])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.7), (6, 0.8), (0, 0.9999), (0, 1e-6)])
def test_tokens_come_as_often_as_they_are_likely(vocabulary: int, top_k: int, top_p: float) -> None:
    line = logits(vocabulary)
    wanted = line / 0.8
    if top_k:
        wanted = TopKLogitsWarper(top_k)(torch.empty(0), wanted)
    if top_p < 1:
        wanted = TopPLogitsWarper(top_p)(torch.empty(0), wanted)
    chances = wanted.double().softmax(dim=1)[0].numpy()
    chosen = choose(line.expand(DRAWS, -1), rows(), Sampling(0.8, top_k, top_p))
    counts = np.bincount(chosen.numpy(), minlength=vocabulary)
    assert np.abs(counts - DRAWS * chances).max() <= 1.01
    assert not counts[chances == 0].any()


def test_a_row_whose_nucleus_is_wide_is_sorted_whole() -> None:
    flat, steep = torch.zeros(1, 5000), logits(5000)
    flat[0, 17] = 0.5
    together = choose(torch.cat([flat, steep]), rows(np.array([0.9, 0.9])), Sampling(1.0, top_p=0.95))
    alone = [choose(line, rows(np.array([0.9])), Sampling(1.0, top_p=0.95)) for line in (flat, steep)]
    assert together.tolist() == [one.item() for one in alone]


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(1.0, top_k=3), Sampling(1.0, top_p=0.5)])
def test_the_ends_of_the_stream_give_possible_tokens(number: float, sampling: Sampling) -> None:
    line = torch.full((1, 600), -torch.inf)
    line[0, [5, 300, 599]] = torch.tensor([0.0, 1.0, 0.5])
    assert choose(line, rows(np.array([number])), sampling).item() in (5, 300, 599)


@pytest.mark.parametrize("vocabulary", [5, 256, 300, 512, 1023])
def test_greedy_takes_the_first_of_the_largest(vocabulary: int) -> None:
    ties = torch.randint(0, 3, (50, vocabulary), generator=torch.Generator().manual_seed(1)).float()
    wanted = [int(np.flatnonzero(line == line.max())[0]) for line in ties.numpy()]
    assert choose(ties, rows()[:50], Sampling()).tolist() == wanted
    assert choose(ties.bfloat16(), rows()[:50], Sampling()).tolist() == wanted


def test_log_probability_is_that_of_the_model_itself() -> None:
    line = logits(500).expand(3, -1)
    chosen = torch.tensor([0, 7, 499])
    torch.testing.assert_close(logp_of(line, chosen), line.log_softmax(dim=1)[0, chosen])


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_what_is_no_distribution_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
