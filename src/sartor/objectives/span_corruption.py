"""Spans of tokens are left out of the input and told as the answer: -sum_n w_n log p(target_n | input, targets before).

Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.1.4 and figure 2: 15 % of the tokens in spans of 3 on
average; each span becomes one sentinel in the input, the answer is every sentinel with what it stands for, then one more
sentinel and end-of-text. "Thank you for inviting me" -> "Thank <X> me </s>", "<X> you for inviting <Y> </s>". Which spans is
drawn anew in every epoch from the seed, the epoch and the row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import numpy as np

    from sartor.tokens.batch import Batch
    from sartor.tokens.symbols import Symbols

TRAITS = Traits(
    rows=frozenset({"text"}), learns="rows", models=frozenset({"encoder_decoder"}), symbols=("sentinels", "end")
)


class Options(BaseOptions):
    """How much is left out."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens of a row that are left out."""
    span: Annotated[float, Field(ge=1)] = 3.0
    """Mean length of a span in tokens."""


def loss(policy: Policy, batch: Batch, options: Options, *, symbols: Symbols) -> Loss:
    """Negative log-likelihood of the answers, each row with its weight."""
    corrupted = corrupt(batch, options, symbols)
    return Loss(total=policy.nll(corrupted), weight=corrupted.weight.sum())


def corrupt(batch: Batch, options: Options, symbols: Symbols) -> Batch:
    """The batch with spans left out: every row is its input and then its answer, which alone is scored.

    Raises ValueError where rows share their beginnings.
    """
    import numpy as np

    from sartor.objectives.masked_lm import of_row
    from sartor.tokens.batch import Rendered, collate

    if any(segment >= 0 for segment in batch.continues):
        raise ValueError("rows of which spans are left out cannot share their beginnings")
    assert symbols.end is not None
    ids, scale = batch.ids[0].cpu().numpy(), batch.scale.tolist()
    rows, start = [], 0
    for number, length in enumerate(batch.lengths):
        own = ids[start : start + length]
        start += length
        draw = of_row(batch.draw, batch.rows[number], own)
        words = own[~symbols.control(own)]
        asked, told = parts(words, options, symbols, draw)
        weight = np.zeros(len(asked) + len(told), np.float32)
        weight[len(asked) :] = scale[number]
        rows.append(Rendered(np.concatenate([asked, told]).astype(np.int32), weight, batch.rows[number]))
    return replace(collate(rows), draw=batch.draw).to(batch.ids.device)


def parts(
    words: np.ndarray, options: Options, symbols: Symbols, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """([n] input, [m] answer) of a row's tokens without control tokens."""
    import numpy as np

    lengths, gaps = spans(len(words), options, len(symbols.sentinels) - 1, draw)
    asked: list[int] = []
    told: list[int] = []
    place = 0
    for sentinel, gap, length in zip(symbols.sentinels, gaps, lengths, strict=False):
        asked += [*words[place : place + gap].tolist(), sentinel]
        told += [sentinel, *words[place + gap : place + gap + length].tolist()]
        place += gap + length
    asked += words[place:].tolist()
    last = symbols.sentinels[len(lengths)]
    assert symbols.end is not None
    return np.array([*asked, symbols.end]), np.array([*told, last, symbols.end])


def spans(length: int, options: Options, most: int, draw: np.random.Generator) -> tuple[list[int], list[int]]:
    """(length of every span, tokens before each since the last one), `most` spans at most; all of one token where there is one."""
    if length < 2:
        return [length], [0]
    gone = min(max(1, round(options.share * length)), length - 1)
    count = max(1, min(round(gone / options.span), gone, length - gone, most))
    return _cut(gone, count, draw), _cut(length - gone, count + 1, draw, empty_ends=True)[:count]


def _cut(total: int, pieces: int, draw: np.random.Generator, *, empty_ends: bool = False) -> list[int]:
    """A random way to write `total` as a sum of `pieces` numbers of at least 1; with `empty_ends` the outer ones may be 0."""
    import numpy as np

    more = 2 if empty_ends else 0
    cuts = np.sort(draw.permutation(total + more - 1)[: pieces - 1]) + 1
    sizes = np.diff(np.concatenate([[0], cuts, [total + more]]))
    if empty_ends:
        sizes[[0, -1]] -= 1
    return [int(size) for size in sizes]
