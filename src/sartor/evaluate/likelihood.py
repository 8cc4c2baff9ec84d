"""How likely a model finds given tokens: rows laid end to end, logits only at scored places, whatever the rows' length.

What several rows begin with, as the examples of a few-shot prompt, is computed once a batch where the model allows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.errors import Problem, TokenError
from sartor.tokens.batch import Rendered, collate, collate_shared
from sartor.tokens.pack import pack, pack_shared

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.tokens.store import TokenRows

PACKED_TOKENS = {"cpu": 8192, "cuda": 32768}
"""Tokens of one forward pass."""
AT_ONCE = 1024
"""Rows of a token set that are held at a time."""


def windows(row: Rendered, window: int | None) -> list[Rendered]:
    """The row in pieces that fit into the model's window; every scored token is scored in exactly one of them.

    What stands before the first scored token is context and is cut at its beginning first. Scored tokens that do not fit
    together are divided into stretches that overlap by one token, so that each is predicted from those before it.
    """
    if window is None or len(row) <= window:
        return [row]
    if row.images:
        what = f"a row with its images has {len(row):,} tokens, more than the {window:,} that the model was made for"
        raise TokenError(Problem("E129", what, fix="smaller images, or fewer in a row"))
    scored = np.flatnonzero(row.weight[1:]) + 1
    if len(scored) == 0:
        return []
    first, behind = int(scored[0]), int(scored[-1]) + 1
    start = max(0, min(first - 1, behind - window))
    pieces = []
    while start < behind - 1:
        end = min(start + window, behind)
        pieces.append(Rendered(row.ids[start:end], row.weight[start:end], row.row))
        start = end - 1
    return pieces


def likelihood(policy: ModelPolicy, rows: Sequence[Rendered]) -> tuple[np.ndarray, np.ndarray]:
    """(nll [n] float64 in nats, tokens [n] int64): sums over each row's tokens with a weight, which is not applied."""
    pieces = [(owner, piece) for owner, row in enumerate(rows) for piece in windows(row, policy.window)]
    nll, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    with measuring(policy):
        for members in _bins(policy, [piece for _, piece in pieces]):
            owners = np.array([pieces[member][0] for member in members])
            together = [pieces[member][1] for member in members]
            batch = collate_shared(together) if policy.exact.shares else collate(together)
            if not len(batch.at):
                continue
            logp = policy.logp(batch.to(policy.device)).double().cpu().numpy()
            owner = owners[batch.row.numpy()]
            np.subtract.at(nll, owner, logp)
            np.add.at(tokens, owner, 1)
    return nll, tokens


def likelihood_and_greedy(policy: ModelPolicy, rows: Sequence[Rendered]) -> tuple[np.ndarray, np.ndarray]:
    """(nll [n] float64 in nats, greedy [n] bool): of each row's scored tokens, and whether every one of them is the likeliest."""
    pieces = [(owner, piece) for owner, row in enumerate(rows) for piece in windows(row, policy.window)]
    nll, greedy = np.zeros(len(rows)), np.ones(len(rows), dtype=np.bool_)
    with measuring(policy):
        for members in _bins(policy, [piece for _, piece in pieces]):
            owners = np.array([pieces[member][0] for member in members])
            together = [pieces[member][1] for member in members]
            batch = (collate_shared(together) if policy.exact.shares else collate(together)).to(policy.device)
            if not len(batch.at):
                continue
            logits = policy.logits(batch).float()
            target = batch.target.to(logits.device).long()
            logp = logits.log_softmax(-1).gather(1, target[:, None])[:, 0].double().cpu().numpy()
            likeliest = (logits.argmax(-1) == target).cpu().numpy()
            owner = owners[batch.row.cpu().numpy()]
            np.subtract.at(nll, owner, logp)
            np.logical_and.at(greedy, owner, likeliest)
    return nll, greedy


def row_losses(policy: ModelPolicy, rows: TokenRows, chosen: Sequence[int], *, whole: bool = False) -> np.ndarray:
    """[k] float64, nats per scored token of the chosen rows, or of each row as a whole; so many rows are held at a time."""
    losses = np.empty(len(chosen))
    for begin in range(0, len(chosen), AT_ONCE):
        some = chosen[begin : begin + AT_ONCE]
        nll, tokens = likelihood(policy, [rows[index] for index in some])
        losses[begin : begin + len(some)] = nll if whole else nll / np.maximum(tokens, 1)
    return losses


@contextmanager
def measuring(policy: ModelPolicy) -> Iterator[None]:
    """Dropout off, no gradients; afterwards as before."""
    training = policy.model.training
    policy.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if training:
            policy.train()


def _bins(policy: ModelPolicy, rows: Sequence[Rendered]) -> list[list[int]]:
    capacity = PACKED_TOKENS.get(policy.device.type, PACKED_TOKENS["cpu"])
    if policy.exact.shares:
        return pack_shared([row.ids for row in rows], capacity)
    if policy.exact.packs:
        return pack([len(row) for row in rows], capacity)
    return [[index] for index in range(len(rows))]
