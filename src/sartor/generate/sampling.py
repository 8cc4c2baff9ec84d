"""Choosing the next token of every row from its logits: the most likely one, or one that is drawn.

A row is drawn for with one uniform number of its own stream, so its tokens do not depend on its neighbours. Temperature,
top-k and top-p (nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751) act in this order, as in transformers.

N: rows, V: vocabulary, C: blocks of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sartor.generate.rows import Row

BLOCK = 256
"""Tokens whose mass is added up before the running sum, which is thus short and can be in fp64."""
NUCLEUS = 256
"""The nucleus is looked for among this many most likely tokens before all are sorted."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Raises ValueError for what is no distribution."""

    temperature: float = 0.0
    """0 takes the most likely token; 1 is the model's own distribution."""
    top_k: int = 0
    """Only this many most likely tokens; 0: all."""
    top_p: float = 1.0
    """Only the most likely tokens that together reach this probability, after top_k."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError("temperature must be 0 or more")
        if self.top_k < 0:
            raise ValueError("top_k must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be above 0 and at most 1")


def choose(logits: torch.Tensor, rows: Sequence[Row], sampling: Sampling) -> torch.Tensor:
    """[N, V] -> [N] int64; of equally likely tokens greedy takes the first."""
    if sampling.temperature == 0:
        return _first_largest(logits)
    draws = [[row.random.random()] for row in rows]
    draw = torch.tensor(draws, dtype=torch.float64, device=logits.device)
    scaled = logits.float() / sampling.temperature
    if sampling.top_k:
        values, ids = scaled.topk(min(sampling.top_k, scaled.shape[1]), dim=1)
        return _nucleus(values, ids, draw, values.logsumexp(dim=1, keepdim=True), sampling.top_p)[0]
    if sampling.top_p < 1:
        return _from_nucleus(scaled, draw, sampling.top_p)
    return _from_all(scaled, draw)


def _first_largest(logits: torch.Tensor) -> torch.Tensor:
    """argmax(dim=1) in two levels: the largest block, then its place. PyTorch finds values faster than places."""
    vocabulary = logits.shape[1]
    whole = vocabulary // BLOCK * BLOCK
    tops = logits[:, :whole].view(len(logits), whole // BLOCK, BLOCK).amax(dim=2)
    if whole < vocabulary:
        tops = torch.cat([tops, logits[:, whole:].amax(dim=1, keepdim=True)], dim=1)
    begin = tops.argmax(dim=1, keepdim=True) * BLOCK
    places = (begin + torch.arange(BLOCK, device=logits.device)).clamp_max(vocabulary - 1)
    token: torch.Tensor = begin + logits.gather(1, places).argmax(dim=1, keepdim=True)
    return token[:, 0]


def logp_of(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """[N, V], [N] -> [N] fp32 log-probability of the chosen tokens in the model's own distribution."""
    wide = logits.float()
    return wide.gather(1, chosen[:, None])[:, 0] - wide.logsumexp(dim=1)


def _from_all(scaled: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Inverse of the distribution function in two levels: which block, then which token in it."""
    rows, vocabulary = scaled.shape
    blocks = -(-vocabulary // BLOCK)
    mass = scaled.new_zeros(rows, blocks * BLOCK)
    torch.exp(scaled - scaled.amax(dim=1, keepdim=True), out=mass[:, :vocabulary])
    mass = mass.view(rows, blocks, BLOCK)
    sums = mass.sum(dim=2).double().cumsum(dim=1)
    target = draw * sums[:, -1:]
    block = torch.searchsorted(sums, target, right=True).clamp_max(blocks - 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp_min(0)), 0)
    within = mass.take_along_dim(block[:, :, None], dim=1)[:, 0].double().cumsum(dim=1)
    token = torch.searchsorted(within, (target - before).minimum(within[:, -1:] * (1 - 1e-12)), right=True)
    return (block * BLOCK + token)[:, 0].clamp_max(vocabulary - 1)


def _from_nucleus(scaled: torch.Tensor, draw: torch.Tensor, top_p: float) -> torch.Tensor:
    """Sort a few tokens; all of them only in rows whose nucleus is larger."""
    total = scaled.logsumexp(dim=1, keepdim=True)
    values, ids = scaled.topk(min(NUCLEUS, scaled.shape[1]), dim=1)
    chosen, reached = _nucleus(values, ids, draw, total, top_p)
    wide = torch.nonzero(~reached)[:, 0]
    if len(wide):
        values, ids = scaled[wide].sort(dim=1, descending=True, stable=True)
        chosen[wide] = _nucleus(values, ids, draw[wide], total[wide], top_p)[0]
    return chosen


def _nucleus(
    values: torch.Tensor, ids: torch.Tensor, draw: torch.Tensor, total: torch.Tensor, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw from descending log-weights [N, k] -> (tokens [N], whether the k tokens reach top_p [N])."""
    mass = (values.double() - total).exp()
    sums = mass.cumsum(dim=1)
    kept = mass.where(sums - mass < top_p, 0).cumsum(dim=1)
    place = torch.searchsorted(kept, draw * kept[:, -1:], right=True)
    last = (kept < kept[:, -1:]).sum(dim=1, keepdim=True)
    return ids.gather(1, place.minimum(last))[:, 0], sums[:, -1] >= top_p
