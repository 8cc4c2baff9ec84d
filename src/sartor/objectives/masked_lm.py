"""Masked words: a share of the tokens is hidden, and -sum_n w_n log p(token_n | all others) is minimised over them.

Devlin et al. 2019, "BERT", section 3.1: 15 % of the tokens are chosen; of these 80 % become the mask token, 10 % a random
token, 10 % stay. Which ones is drawn anew in every epoch from the seed, the epoch and the row, so that packing,
micro-batches, ranks and a resume change nothing. Unlike there, `share` is held in every row, and one token at least is hidden.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import numpy as np

    from sartor.tokens.batch import Batch
    from sartor.tokens.symbols import Symbols

TRAITS = Traits(rows=frozenset({"text"}), learns="rows", models=frozenset({"encoder"}), symbols=("mask",))


class Options(BaseOptions):
    """How much is hidden, and how."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens of a row that are to be told."""
    masked: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of these that become the mask token; half of the others a random token, half stay."""


def loss(policy: Policy, batch: Batch, options: Options, *, symbols: Symbols) -> Loss:
    """Negative log-likelihood of the hidden tokens, each row with its weight."""
    hidden = hide(batch, options, symbols)
    return Loss(total=policy.nll(hidden), weight=hidden.weight.sum())


def hide(batch: Batch, options: Options, symbols: Symbols) -> Batch:
    """The batch with tokens hidden; its scored places are those tokens, and their targets what stood there.

    Raises ValueError where rows share their beginnings: each hides other tokens.
    """
    import numpy as np
    import torch

    if any(segment >= 0 for segment in batch.continues):
        raise ValueError("rows whose tokens are hidden cannot share their beginnings")
    assert symbols.mask is not None
    ids = batch.ids[0].cpu().numpy()
    shown, at, owner = ids.copy(), [], []
    start = 0
    for number, length in enumerate(batch.lengths):
        own = ids[start : start + length]
        draw = of_row(batch.draw, batch.rows[number], own)
        free = np.flatnonzero(~symbols.control(own))
        count = min(len(free), max(1, round(options.share * len(free))))
        chosen = np.sort(draw.permutation(free)[:count])
        how = draw.random(count)
        words = symbols.words[draw.integers(0, len(symbols.words), count)]
        rest = options.masked + (1 - options.masked) / 2
        told = np.where(how < options.masked, symbols.mask, np.where(how < rest, words, own[chosen]))
        shown[start + chosen] = told
        at.append(start + chosen)
        owner.append(np.full(count, number))
        start += length
    places, rows = np.concatenate(at), np.concatenate(owner)
    device = batch.ids.device
    row = torch.from_numpy(rows).to(device)
    return replace(
        batch,
        ids=torch.from_numpy(shown)[None].to(device),
        at=torch.from_numpy(places).to(device),
        target=torch.from_numpy(ids[places]).to(device),
        weight=batch.scale[row],
        row=row,
        columns={},
    )


def of_row(draw: int, row: int, ids: np.ndarray) -> np.random.Generator:
    """The random choices about one row in one epoch, whatever stands beside it; windows of one document have their own."""
    import numpy as np

    return np.random.default_rng([draw, row, crc32(np.ascontiguousarray(ids, np.int64).tobytes())])
