"""Generation by encoder-decoders: prompts side by side through the encoder once, answers token by token with a cache.

Prompts of like length go together. A row that has ended leaves the batch and its cache; none joins before the batch is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sartor.generate.engine import Choose, Heard
from sartor.generate.padded import batches
from sartor.generate.rows import Row, add_all
from sartor.models.padding import side_by_side

if TYPE_CHECKING:
    from sartor.models.encoder_decoder import EncoderDecoderPolicy


def run_encoder_decoder(
    policy: EncoderDecoderPolicy,
    stop_ids: frozenset[int],
    choose: Choose,
    heard: Heard | None,
    rows: Sequence[Row],
    batch: int,
) -> Iterator[list[Row]]:
    """Finish all rows, at most `batch` together; yields each batch in the order its rows finished."""
    for members in batches(rows, batch):
        with policy.generating():
            finished = _run(policy, members, stop_ids, choose, heard)
        yield finished


def _run(
    policy: EncoderDecoderPolicy, rows: list[Row], stop_ids: frozenset[int], choose: Choose, heard: Heard | None
) -> list[Row]:
    """Generate for all rows of one batch; returns them in the order they finished."""
    lengths = [len(row.prompt) for row in rows]
    flat = torch.from_numpy(np.concatenate([row.prompt for row in rows])).to(policy.device)
    ids = side_by_side(flat, np.cumsum([0, *lengths[:-1]]).tolist(), lengths, policy.pad)
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).to(torch.int64).to(policy.device)
    read = policy.model.get_encoder()(input_ids=ids, attention_mask=mask, return_dict=True)
    decoded = torch.full((len(rows), 1), policy.start, device=policy.device)
    cache: Any = None
    finished: list[Row] = []
    while True:
        out = policy.model(
            encoder_outputs=read,
            attention_mask=mask,
            decoder_input_ids=decoded,
            past_key_values=cache,
            use_cache=True,
        )
        cache = out.past_key_values
        chosen = choose(out.logits[:, -1], rows)
        add_all(rows, chosen, stop_ids, heard)
        finished += [row for row in rows if row.over]
        going = [place for place, row in enumerate(rows) if not row.over]
        if not going:
            return finished
        decoded = torch.tensor(chosen, device=policy.device)[:, None]
        if len(going) < len(rows):
            keep = torch.tensor(going, device=policy.device)
            cache.batch_select_indices(keep)
            read.last_hidden_state = read.last_hidden_state[keep]
            mask, decoded = mask[keep], decoded[keep]
            rows = [rows[place] for place in going]
