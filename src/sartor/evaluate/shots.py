"""Examples for the few-shot prompt: from the training rows, of many kinds, as many as fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.rows import Example, Message

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset
    from sartor.tokens.render import Renderer

POOL = 400
"""Training rows looked at."""
LOOKED_AT = 50
"""Longest prompts that the examples must fit before."""
MOST = 5


def choose_shots(dataset: Dataset, indices: Sequence[int], *, count: int = MOST, seed: int = 0) -> list[Example]:
    """At most `count` rows, one of each stratum (or answer, where rows have no stratum) before a second of any.

    Depends on `seed` and the rows' content only, never on their order. Of like kinds the larger comes first.
    """
    rows = np.asarray(indices, dtype=np.int64)
    mark = np.random.default_rng(seed).integers(1 << 64, dtype=np.uint64)
    order_of = (dataset.index.content[rows, 0] ^ mark).argsort(kind="stable")
    kinds: dict[str, list[Example]] = defaultdict(list)
    for index in rows[order_of[:POOL]]:
        row = dataset[int(index)]
        if isinstance(row, Example):
            kinds[row.stratum or row.answer_text()].append(row)
    order = sorted(kinds.values(), key=lambda rows: -len(rows))
    chosen: list[Example] = []
    for turn in range(max(map(len, order), default=0)):
        chosen += [rows[turn] for rows in order if turn < len(rows)]
        if len(chosen) >= count:
            break
    return chosen[:count]


def fit_shots(
    shots: Sequence[Example], rows: Sequence[Example], renderer: Renderer, *, window: int | None, room: int
) -> list[Example]:
    """The first shots that leave `room` tokens for the answer in the model's window before the longest of `rows`."""
    if window is None or not rows:
        return list(shots)
    longest = sorted(rows, key=lambda row: -len(row.prompt_text()))[:LOOKED_AT]
    kept = list(shots)
    while kept:
        lengths = [len(renderer.prompt(with_shots(row, kept), row.tools)) for row in longest]
        if max(lengths) + room <= window:
            break
        kept.pop()
    return kept


def with_shots(row: Example, shots: Sequence[Example]) -> tuple[Message, ...]:
    """The row's prompt with the shots as earlier turns of the same conversation, after its own system message.

    A shot's own system message is left out where the row has one or an earlier shot brought the same.
    """
    prompt = row.prompt()
    if not shots:
        return prompt
    head = tuple(message for message in prompt[:1] if message.role == "system")
    if not head:
        head = tuple(message for message in shots[0].messages[:1] if message.role == "system")
    turns = [message for shot in shots for message in (*shot.prompt(), shot.answer()) if message.role != "system"]
    own = prompt[1:] if prompt and prompt[0].role == "system" else prompt
    return (*head, *(replace(message, weight=None) for message in turns), *own)
