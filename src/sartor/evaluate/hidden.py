"""How likely a model finds tokens that were hidden from it: what stands for likelihood where a model does not write left to right.

The same tokens are hidden for every model and every time, as the training objective hides them (masked words of an encoder,
left-out spans of an encoder-decoder). The perplexity of such rows is that of the hidden tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.rows import Row, Text
from sartor.errors import Problem, TokenError
from sartor.evaluate.likelihood import PACKED_TOKENS, measuring
from sartor.events import Event, Noted, Progressed
from sartor.protocols import Outcome
from sartor.tokens.batch import Batch, Rendered, collate
from sartor.tokens.contract import windows
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset
    from sartor.models.base import ModelPolicy
    from sartor.tokens.render import Renderer

BLOCK = 256
"""Rows that are read before any is given back."""
Hide = Callable[[Batch], Batch]
"""Hides tokens; the scored places of what it gives are those tokens."""


def predict_hidden(
    policy: ModelPolicy,
    renderer: Renderer,
    dataset: Dataset | Sequence[Row],
    indices: Sequence[int],
    hide: Hide,
    *,
    task: str,
    most: int,
    emit: Callable[[Event], None],
) -> Iterator[Outcome]:
    """The likelihood of what `hide` hides in each row of `indices`, in that order; longer rows in windows of `most` tokens.

    Raises TokenError.
    """
    for start in range(0, len(indices), BLOCK):
        rows = [dataset[int(index)] for index in indices[start : start + BLOCK]]
        nll, tokens = _likelihood(policy, _pieces(renderer, rows, most), len(rows), hide)
        for row, loss, count in zip(rows, nll, tokens, strict=True):
            text = row.text if isinstance(row, Text) else row.prompt_text()
            yield Outcome(
                id=row.id or str(row.origin),
                prompt="",
                reference=text,
                nll=float(loss),
                tokens=int(count),
                columns=row.columns,
            )
        emit(Progressed(task, start + len(rows), len(indices)))
    emit(Noted("info", "E119", "this model does not write left to right; likelihood is that of hidden tokens"))


def _pieces(renderer: Renderer, rows: Sequence[Row], most: int) -> list[Rendered]:
    """Every row, or its windows; `row` is its place among these."""
    from sartor.tokens.render import Tokens

    made = renderer.render_many(list(enumerate(rows)))
    problems = [each for each in made if isinstance(each, Problem)]
    if problems:
        raise TokenError(*problems)
    return [piece for each in made if isinstance(each, Tokens) for one in each.rendered for piece in windows(one, most)]


def _likelihood(
    policy: ModelPolicy, pieces: Sequence[Rendered], count: int, hide: Hide
) -> tuple[np.ndarray, np.ndarray]:
    nll, tokens = np.zeros(count), np.zeros(count, np.int64)
    capacity = PACKED_TOKENS.get(policy.device.type, PACKED_TOKENS["cpu"])
    together = pack([len(piece) for piece in pieces], capacity)
    if not policy.exact.packs:
        together = [[place] for place in range(len(pieces))]
    with measuring(policy):
        for members in together:
            batch = hide(collate([pieces[member] for member in members])).to(policy.device)
            owner = np.array(batch.rows)[batch.row.cpu().numpy()]
            np.subtract.at(nll, owner, policy.logp(batch).double().cpu().numpy())
            np.add.at(tokens, owner, 1)
    return nll, tokens
