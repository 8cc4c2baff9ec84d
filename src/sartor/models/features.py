"""What a frozen trunk gives of each row, computed once and kept, so that training a head costs the head alone.

The head is asked through transformers' own forward pass, with something in the trunk's place that gives back what was kept. Of
a row the head may read its first hidden state, its last one, or all: the least from which this very head gives what it gives on
the live model is kept, as measured. Rows are known by their tokens, so what was kept of one is never taken for another.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from sartor.errors import ModelError, Problem
from sartor.models.padding import Padded, Side
from sartor.models.probe import LENGTHS, TOLERANCE, distance, sample, told_apart
from sartor.store import atomic
from sartor.store.ranks import ONE, Ranks
from sartor.tokens.batch import collate
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.tokens.batch import Batch
    from sartor.tokens.store import TokenRows

Reads = Literal["first", "last", "all"]
"""Which of a row's hidden states a head reads."""
TOKENS = 8192
"""Of one forward pass."""
PART = 1 << 26
"""Numbers of one file, about."""
KEY = 16
"""Bytes that tell a row from others."""


class Recall(torch.nn.Module):
    """Stands in a trunk's place and gives `states`, [R, L, H], as the trunk gives its last hidden states."""

    def __init__(self, output: type[Any], pooler: torch.nn.Module | None) -> None:
        super().__init__()
        self.output, self.pooler = output, pooler
        self.states: torch.Tensor | None = None

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What was put in, and what the trunk's own pooler makes of it."""
        if self.pooler is None:
            return self.output(last_hidden_state=self.states)
        return self.output(last_hidden_state=self.states, pooler_output=self.pooler(self.states))


class Features:
    """Scores rows by a head on the kept states of a frozen trunk; rows that are not kept go through the trunk, still.

    Raises ModelError M182 where the head cannot be asked apart from its trunk.
    """

    def __init__(self, policy: ModelPolicy) -> None:
        self._policy = policy
        self._kept: dict[bytes, tuple[Any, int, int]] = {}
        """Row -> the file it lies in, and where."""
        trunk = policy.model.base_model
        pooler = getattr(trunk, "pooler", None)
        self._recall = Recall(_output(policy), pooler if isinstance(pooler, torch.nn.Module) else None)
        self._head = copy.copy(policy.model)
        name = next(name for name, part in policy.model.named_children() if part is trunk)
        self._head._modules = {**policy.model._modules, name: self._recall}
        self.reads: Reads = self._measured()

    @torch.no_grad()
    def _measured(self) -> Reads:
        """The least that the head has to read."""
        policy = self._policy
        rows = told_apart(policy, sample(policy.vocabulary, [length + 2 for length in LENGTHS]))
        batch = collate(rows).to(policy.device)
        policy.eval()
        live = policy.score(batch)
        choices: tuple[Reads, ...] = get_args(Reads)
        for reads in choices:
            self.reads = reads
            try:
                ours = self.score(batch)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
                continue
            if ours.shape == live.shape and distance(ours, live) <= TOLERANCE[policy.model.dtype]:
                return reads
        what = "the head of this model does more with its trunk than to read its last hidden states"
        raise ModelError(Problem("M182", what, fix="method: full, or an adapter"))

    def __len__(self) -> int:
        """How many rows are kept."""
        return len(self._kept)

    def score(self, batch: Batch) -> torch.Tensor:
        """[R, k] fp32 output of the head on whole rows; of tags, [T, k]."""
        head = self._policy.head
        assert head is not None
        states = self._states(batch)
        self._head.training = self._policy.model.training
        if self.reads != "all":
            starts = [0, *accumulate(batch.lengths)][:-1]
            place = batch.last if self.reads == "last" else torch.tensor(starts, device=batch.last.device)
            ids = batch.ids[0][place][:, None]
            return self._ask(states[:, None], ids, torch.ones_like(ids)).float()
        padded = Padded(batch.ids[0], batch.lengths, self._policy.pad)
        by_row = torch.split(states, list(batch.lengths))

        def run(side: Side) -> torch.Tensor:
            own = torch.cat([by_row[row] for row in side.rows])
            flat = own.new_zeros(side.ids.numel(), own.shape[1]).index_copy(0, side.take, own)
            return self._ask(flat.view(*side.ids.shape, -1), side.ids, side.mask)

        return (padded.tokens(run) if head.place == "tokens" else padded.rows(run)).float()

    def _ask(self, states: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self._recall.states = states
        logits: torch.Tensor = self._head(input_ids=ids, attention_mask=mask).logits
        self._recall.states = None
        return logits

    def _states(self, batch: Batch) -> torch.Tensor:
        """[R, H] the states that the head reads, or [T, H]."""
        found = [self._kept.get(key) for key in _keys(batch)]
        if not all(found):
            return self._live(batch)
        parts = [entry[0].get_slice("states")[entry[1] : entry[2]] for entry in found if entry]
        return torch.cat(parts).to(batch.ids.device)

    def _live(self, batch: Batch) -> torch.Tensor:
        """The same from the trunk."""
        with self._policy.still():
            states = self._policy.trunk(batch)
            if self.reads == "last":
                states = states[batch.last]
            elif self.reads == "first":
                starts = [0, *accumulate(batch.lengths)][:-1]
                states = states[torch.tensor(starts, device=states.device)]
        return states.clone()

    def keep(
        self,
        sets: Sequence[TokenRows],
        folder: Path,
        *,
        base: str,
        rank: int = 0,
        size: int = 1,
        ranks: Ranks = ONE,
    ) -> None:
        """Compute the states of every row, or open them where `folder` has them, of the same trunk and rows, from before.

        `base` identifies the trunk and the rows. Each of `size` ranks computes its share. Raises SartorError F130 or F131
        where the disk refuses them.
        """
        about = {"base": base, "reads": self.reads, "dtype": str(self._policy.model.dtype)}
        if not ranks.lead(lambda: _there(folder, about)):
            shares = list(self._shares(sets))
            writers = {
                f"part-{number:05d}.safetensors": partial(self._write, rows, chosen)
                for number, (rows, chosen) in enumerate(shares)
                if number % size == rank
            }
            atomic.publish(folder, writers, about=about, ranks=ranks)
        self._open(folder)

    def _shares(self, sets: Sequence[TokenRows]) -> Iterator[tuple[TokenRows, range]]:
        """The rows of all sets in shares of about one file."""
        width = int(self._policy.model.config.get_text_config().hidden_size)
        for rows in sets:
            sizes = np.cumsum(rows.lengths if self.reads == "all" else np.ones(len(rows), np.int64)) * width // PART
            ends = [*np.flatnonzero(np.diff(sizes, append=-1)) + 1] if len(rows) else []
            yield from ((rows, range(int(begin), int(end))) for begin, end in pairwise([0, *ends]))

    def _write(self, rows: TokenRows, chosen: range, path: Path) -> None:
        from safetensors.torch import save_file

        order = [chosen[index] for index in _by_length(rows, chosen)]
        lengths = [int(rows.lengths[index]) for index in order]
        keys: list[bytes] = []
        parts: list[torch.Tensor] = []
        ends: list[int] = []
        for members in pack(lengths, TOKENS) if self._policy.exact.packs else [[n] for n in range(len(order))]:
            batch = collate([rows[order[member]] for member in members]).to(self._policy.device)
            keys += _keys(batch)
            parts.append(self._live(batch).cpu())
            ends += batch.lengths if self.reads == "all" else [1] * len(members)
        table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY).copy()
        tensors = {
            "states": torch.cat(parts).contiguous(),
            "ends": torch.tensor(ends).cumsum(0),
            "keys": torch.from_numpy(table),
        }
        save_file(tensors, path)

    def _open(self, folder: Path) -> None:
        from safetensors import safe_open

        self._kept = {}
        for path in sorted(folder.glob("part-*.safetensors")):
            file: Any = safe_open(path, framework="pt")
            keys, ends = file.get_tensor("keys").numpy(), file.get_tensor("ends").tolist()
            for key, (begin, end) in zip(keys, pairwise([0, *ends]), strict=True):
                self._kept[key.tobytes()] = (file, begin, end)


def _by_length(rows: TokenRows, chosen: range) -> np.ndarray:
    """Rows of like length one after the other, so that batches of them hold little padding."""
    return np.argsort(rows.lengths[chosen.start : chosen.stop], kind="stable")


def _there(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether a folder is whole and of this trunk and these rows."""
    atomic.restore(folder)
    if not folder.is_dir() or atomic.verify(folder):
        return False
    return bool(atomic.seal(folder)["about"] == about)


def _keys(batch: Batch) -> list[bytes]:
    """What tells each row from others: a hash of its tokens."""
    flat, ends = batch.ids[0].cpu().numpy(), [0, *accumulate(batch.lengths)]
    return [
        hashlib.blake2b(flat[begin:end].astype("<i8").tobytes(), digest_size=KEY).digest()
        for begin, end in pairwise(ends)
    ]


def _output(policy: ModelPolicy) -> type[Any]:
    """The class of what the trunk gives."""
    heard: list[type[Any]] = []
    (row,) = told_apart(policy, sample(policy.vocabulary, [5]))
    handle = policy.model.base_model.register_forward_hook(lambda _, __, output: heard.append(type(output)))
    try:
        with policy.still():
            policy.score(collate([row]).to(policy.device))
    finally:
        handle.remove()
    return heard[0]
