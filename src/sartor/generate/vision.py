"""Generation by vision-text models: a row at a time, its images read once with its prompt, then token by token with a cache.

Whether the model goes on from its cache as it goes on from the whole row is measured once for each model; where it does not, every
token is made from the whole row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sartor.generate.engine import Choose, Heard
from sartor.generate.rows import Row, add_all
from sartor.models.probe import TOLERANCE, distance
from sartor.tokens.batch import Batch, Rendered, collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.vision import VisionPolicy

TRIED = 4
"""Tokens by which the cache is measured."""

_known: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def run_vision(
    policy: VisionPolicy, stop_ids: frozenset[int], choose: Choose, heard: Heard | None, rows: Sequence[Row]
) -> Iterator[list[Row]]:
    """Finish all rows, longest prompts first."""
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.index, row.sample)):
        with policy.generating():
            following = _cached if goes_on(policy) else _whole
            for logits in following(policy, row):
                add_all([row], choose(logits, [row]), stop_ids, heard)
                if row.over:
                    break
        yield [row]


def goes_on(policy: VisionPolicy) -> bool:
    """Whether the model's cache gives what the whole row gives; measured once, on a row with an image where it can be shown one."""
    if policy.model not in _known:
        batch = next(iter(policy.looks()), None) or _batch(
            policy, Row(0, 0, np.arange(3, 15), 1, np.random.default_rng(0))
        )
        _known[policy.model] = _measured(policy, batch)
    return _known[policy.model]


def _measured(policy: VisionPolicy, batch: Batch) -> bool:
    whole = policy.model(**policy.given(batch), use_cache=False).logits[0, -TRIED - 1 :]
    begun = batch.ids[:, :-TRIED]
    given = policy.given(batch)
    given |= {name: value[:, :-TRIED] for name, value in given.items() if name.endswith("token_type_ids")}
    try:
        out = policy.model(**given | {"input_ids": begun}, use_cache=True)
        found = [out.logits[0, -1]]
        for place in range(batch.tokens - TRIED, batch.tokens):
            out = policy.model(
                input_ids=batch.ids[:, place : place + 1], past_key_values=out.past_key_values, use_cache=True
            )
            found.append(out.logits[0, -1])
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    return distance(torch.stack(found), whole) <= TOLERANCE[policy.model.dtype]


def _cached(policy: VisionPolicy, row: Row) -> Iterator[torch.Tensor]:
    """[1, V] logits of one token after the other."""
    out: Any = policy.model(**policy.given(_batch(policy, row)), use_cache=True, logits_to_keep=1)
    while True:
        yield out.logits[:, -1]
        last = torch.tensor([row.ids[-1:]], device=policy.device)
        out = policy.model(input_ids=last, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)


def _whole(policy: VisionPolicy, row: Row) -> Iterator[torch.Tensor]:
    while True:
        yield policy.model(**policy.given(_batch(policy, row)), use_cache=False, logits_to_keep=1).logits[:, -1]


def _batch(policy: VisionPolicy, row: Row) -> Batch:
    """The row as far as it is known."""
    ids = np.concatenate([row.prompt, np.asarray(row.ids, np.int64)]).astype(np.int32)
    return collate([Rendered(ids, np.ones(len(ids), np.float32), row.index, images=row.images)]).to(policy.device)
