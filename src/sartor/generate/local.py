"""Text from a model in this process: prompts of like length side by side, left-padded, with a cache of keys and values.

B: rows being generated, L: longest prompt, V: vocabulary. Only the logits of the last place ever exist ([B, V]). A row that
has ended leaves the batch and its cache, so the last rows do not wait for padding. With temperature 0 every row gets the
tokens it would get alone; with a temperature every prompt has a random stream of its own, made from (seed, its index), so
what is sampled for it does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.policy import CausalPolicy

BATCH_TOKENS = 1 << 15
"""Places of the cache in one batch, at most (one row may need more)."""

Listener = Callable[[int, str], None]
"""Told (index of the prompt, text so far) after every token."""


@dataclass(slots=True)
class _Row:
    """One prompt on its way."""

    index: int
    prompt: Sequence[int]
    limit: int
    """Tokens that may still be generated in all."""
    random: np.random.Generator
    made: list[int] = field(default_factory=list)
    stopped: bool = False

    @property
    def over(self) -> bool:
        return self.stopped or len(self.made) >= self.limit


class LocalGenerator:
    """Implements `TextGenerator` on a policy.

    Args:
        policy: the model; its adapter, where it has one, is used as it is switched.
        stop_ids: tokens that end an answer; they are not part of the text.
        pad_id: any token of the vocabulary; it is masked.
        decode: ids of an answer, without the stop token, to text.
        batch: rows generated together, at most.
    """

    def __init__(
        self,
        policy: CausalPolicy,
        stop_ids: frozenset[int],
        pad_id: int,
        decode: Callable[[Sequence[int]], str],
        batch: int,
    ) -> None:
        self.policy, self.stop_ids, self.pad_id, self.decode, self.batch = policy, stop_ids, pad_id, decode, batch

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        listen: Listener | None = None,
    ) -> Iterator[tuple[int, str, bool]]:
        """Yields (index of the prompt, text, ended by itself), batch by batch, within one in the order they finish.

        A row ends at a stop token, after `max_new_tokens`, or where the model's window is full.
        """
        window = self.policy.window or max_new_tokens + max(map(len, prompts), default=0)
        rows = [
            _Row(index, prompt, min(max_new_tokens, window - len(prompt)), np.random.default_rng([seed, index]))
            for index, prompt in enumerate(prompts)
        ]
        for row in rows:
            if not row.prompt:
                raise ValueError(f"prompt {row.index} is empty; a model continues from at least one token")
        choose = _Greedy() if temperature == 0 else _Sampled(temperature)
        for members in self._batches([row for row in rows if row.limit > 0]):
            with self.policy.generating() as model:
                finished = self._run(model, members, choose, listen)
            for row in finished:
                yield row.index, self.decode(row.made), row.stopped
        yield from ((row.index, "", False) for row in rows if row.limit <= 0)

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Longest prompts first, so that what does not fit into memory fails at once."""
        members: list[_Row] = []
        places = 0
        for row in sorted(rows, key=lambda row: (-len(row.prompt), row.index)):
            if members and (len(members) == self.batch or (len(members) + 1) * places > BATCH_TOKENS):
                yield members
                members = []
            if not members:
                places = len(row.prompt) + row.limit
            members.append(row)
        if members:
            yield members

    def _run(
        self, model: PreTrainedModel, rows: list[_Row], choose: _Greedy | _Sampled, listen: Listener | None
    ) -> list[_Row]:
        """Generate for all rows of one batch; returns them in the order they finished."""
        device = self.policy.device
        longest = max(len(row.prompt) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(rows), longest), dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, longest - len(row.prompt) :] = torch.as_tensor(np.asarray(row.prompt, dtype=np.int64))
            mask[place, longest - len(row.prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        position = (mask.cumsum(dim=1) - 1).clamp_min(0)
        cache: Any = None
        finished: list[_Row] = []
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
            for row, token in zip(rows, chosen.tolist(), strict=True):
                row.stopped = token in self.stop_ids
                if not row.stopped:
                    row.made.append(token)
                if listen is not None:
                    listen(row.index, self.decode(row.made))
            finished += [row for row in rows if row.over]
            going = [place for place, row in enumerate(rows) if not row.over]
            if not going:
                return finished
            if len(going) < len(rows):
                keep = torch.tensor(going, device=device)
                cache.batch_select_indices(keep)
                mask, position, chosen = mask[keep], position[keep], chosen[keep]
                rows = [rows[place] for place in going]
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
            position = position[:, -1:] + 1


class _Greedy:
    """The most likely token; of equals the first."""

    def __call__(self, logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
        """[B, V] -> [B] int64."""
        return logits.argmax(dim=1)


class _Sampled:
    """A token drawn from softmax(logits / temperature) by one uniform number from each row's own stream."""

    def __init__(self, temperature: float) -> None:
        if temperature < 0:
            raise ValueError("temperature must be 0 or more")
        self.temperature = temperature

    def __call__(self, logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
        """[B, V] -> [B] int64."""
        mass = (logits.double() / self.temperature).softmax(dim=1).cumsum(dim=1)
        draw = torch.tensor([[row.random.random()] for row in rows], dtype=torch.float64, device=logits.device)
        return torch.searchsorted(mass, draw * mass[:, -1:]).clamp_max(logits.shape[1] - 1)[:, 0]
