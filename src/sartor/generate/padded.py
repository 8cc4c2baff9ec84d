"""Generation with transformers' own cache: for models whose keys and values our slots do not serve.

Prompts of like length side by side, padded on the left. A row that has ended leaves the batch and its cache, but none joins
before the batch is over. Behind keys and values that are given (prefix tuning) each row goes alone: padding between the two would
count in a sliding window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from sartor.generate.engine import CACHE_TOKENS, Choose, Heard
from sartor.generate.rows import Row, add_all

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.policy import CausalPolicy


def run_padded(
    policy: CausalPolicy,
    stop_ids: frozenset[int],
    pad_id: int,
    choose: Choose,
    heard: Heard | None,
    rows: Sequence[Row],
    batch: int,
) -> Iterator[list[Row]]:
    """Finish all rows, at most `batch` together; yields each batch in the order its rows finished."""
    given = policy.virtual is not None and policy.virtual.layers is not None
    for members in batches(rows, 1 if given else batch):
        with policy.generating() as model:
            cache, before = _given(policy) if given else (None, 0)
            finished = _run(model, policy.device, members, stop_ids, pad_id, choose, heard, cache, before)
        yield finished


def _given(policy: CausalPolicy) -> tuple[Any, int]:
    """A cache that holds the given keys and values, and how many places they take."""
    from transformers.cache_utils import DynamicCache

    virtual = policy.virtual
    assert virtual is not None
    assert virtual.layers is not None
    cache = DynamicCache(config=policy.model.config)
    for number, (keys, values) in enumerate(virtual.layers()):
        cache.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None], number)
    return cache, virtual.count


def batches(rows: Sequence[Row], batch: int) -> Iterator[list[Row]]:
    """At most `batch` rows together, and no more places than a cache has.

    Longest prompts first, so that what does not fit into memory fails at once.
    """
    members: list[Row] = []
    places = 0
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.index, row.sample)):
        places = max(places, row.need)
        if members and (len(members) == batch or (len(members) + 1) * places > CACHE_TOKENS):
            yield members
            members, places = [], row.need
        members.append(row)
    if members:
        yield members


def _run(
    model: PreTrainedModel,
    device: torch.device,
    rows: list[Row],
    stop_ids: frozenset[int],
    pad_id: int,
    choose: Choose,
    heard: Heard | None,
    cache: Any,
    before: int,
) -> list[Row]:
    """Generate for all rows of one batch; returns them in the order they finished. `cache` holds `before` places of each."""
    longest = max(len(row.prompt) for row in rows)
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, longest - len(row.prompt) :] = torch.from_numpy(row.prompt)
        mask[place, longest - len(row.prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    position = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, before:]
    ids = ids[:, before:]
    finished: list[Row] = []
    while True:
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        chosen = choose(out.logits[:, -1], rows)
        add_all(rows, chosen, stop_ids, heard)
        finished += [row for row in rows if row.over]
        going = [place for place, row in enumerate(rows) if not row.over]
        if not going:
            return finished
        ids = torch.tensor(chosen, device=device)[:, None]
        if len(going) < len(rows):
            keep = torch.tensor(going, device=device)
            cache.batch_select_indices(keep)
            mask, position, ids = mask[keep], position[keep], ids[keep]
            rows = [rows[place] for place in going]
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
        position = position[:, -1:] + 1
