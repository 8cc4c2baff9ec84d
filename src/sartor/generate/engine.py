"""Continuous batching: a row takes a slot as soon as one is free and leaves it when it is over, while the others go on.

Keys and values live in buffers that are made once (`Slots`). A pass of the model has one token of every slot and, before them,
the prompts of rows that join, so joining neither waits for others nor stops them. What the prompt of a joining row has in
common with another slot (the same prompt sampled several times) is copied from there instead of computed; what all prompts
have in common (a few-shot prompt) is computed and kept once.
Only the logits of the last tokens ever exist, [N, V].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.generate.attention import SLOTS, register
from sartor.generate.rows import Row, add_all
from sartor.generate.slots import Chunk, Copy, Slots
from sartor.models.virtual import Given

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.policy import CausalPolicy

CACHE_TOKENS = 1 << 15
"""Places of all slots together, at most (a single row may need more)."""
JOINING_TOKENS = 1 << 13
"""Tokens of joining prompts in one pass, at most (a single prompt may be longer)."""
TRUNK = 64
"""Tokens that all prompts must begin with to be kept once for all of them."""
SHARED = 16
"""Prompts that agree in fewer tokens are computed apart: together they are faster than the copies."""
ROUND = 16
"""Places are looked at in multiples of this many: fewer shapes, aligned rows of the mask."""

Choose = Callable[[torch.Tensor, Sequence[Row]], list[int]]
"""([N, V] logits, the rows they belong to) -> a token for each; may write into the rows."""
Heard = Callable[[Row], None]
"""Told of a row whenever it has a new token."""


@contextmanager
def attending(policy: CausalPolicy, attention: str = SLOTS) -> Iterator[PreTrainedModel]:
    """The model in evaluation mode with the attention of slots, or another one, without gradients."""
    training = policy.model.training
    policy.model.eval()
    try:
        with torch.inference_mode(), policy.attention(attention):
            yield policy.model
    finally:
        policy.model.train(training)


@dataclass(frozen=True, slots=True)
class Share:
    """Rows that go through the same slots: `count` of `places` each, behind the `trunk` tokens that all prompts begin with."""

    rows: Sequence[Row]
    count: int
    places: int
    trunk: int = 0


def share_out(rows: Sequence[Row], batch: int) -> Iterator[Share]:
    """Sort the rows, find what all prompts have in common, and size the slots.

    Longest prompts first, so that what does not fit into memory fails at once. Rows of very different needs are kept apart
    only where the long ones would leave the short ones too few slots.
    """
    order = sorted(rows, key=lambda row: (-len(row.prompt), row.index, row.sample))
    trunk = _trunk(order)
    left = deque(order)
    while left:
        members = [left.popleft()]
        need = members[0].need - trunk
        while left:
            other = left[0].need - trunk
            if batch * max(need, other) > CACHE_TOKENS and 2 * other < need:
                break
            need = max(need, other)
            members.append(left.popleft())
        places = -(-need // ROUND) * ROUND
        yield Share(members, min(batch, len(members), max(1, CACHE_TOKENS // places)), places, trunk)


def _trunk(rows: Sequence[Row]) -> int:
    """Tokens that all prompts begin with; 0 where so few are not worth a pass of their own."""
    first = rows[0].prompt
    common = min(len(row.prompt) for row in rows) - 1
    for row in rows[1:]:
        common = min(common, _agreement(first[:common], row.prompt))
    return common if common >= TRUNK and len(rows) > 1 else 0


class Engine:
    """Runs rows through slots.

    Args:
        policy: the model; `attention` lets it take ours.
        stop_ids: tokens that end a row.
        choose: picks the tokens.
        heard: told of rows with a new token; None: nobody listens.
    """

    def __init__(
        self, policy: CausalPolicy, stop_ids: frozenset[int], choose: Choose, heard: Heard | None = None
    ) -> None:
        register()
        self.policy, self.stop_ids, self.choose, self.heard = policy, stop_ids, choose, heard
        self.windows: dict[int, int | None] = {}
        """Of every layer that attended, how many places it looks back; None: all."""

    def run(self, share: Share) -> Iterator[list[Row]]:
        """Finish all rows; yields bunches of finished rows, at most as many as there are slots in each."""
        slots = Slots(share.count, share.places, share.trunk, self.policy.device, native=self.policy.native)
        desk = Desk(share.rows, slots)
        if share.trunk:
            with attending(self.policy) as model:
                ids, position, last = desk.plan_trunk()
                model(
                    input_ids=self._words(ids, slots),
                    position_ids=position,
                    use_cache=False,
                    logits_to_keep=last,
                    slots=slots,
                )
        while not desk.idle:
            finished: list[Row] = []
            with attending(self.policy) as model:
                while not desk.idle and len(finished) < share.count:
                    finished += self.step(model, desk, slots)
            yield finished
        self.windows = slots.windows

    def step(self, model: PreTrainedModel, desk: Desk, slots: Slots) -> list[Row]:
        """One pass of the model: a token for every row at the desk. Returns the rows that are over."""
        ids, position, last = desk.plan()
        words = self._words(ids, slots)
        out = model(input_ids=words, position_ids=position, use_cache=False, logits_to_keep=last, slots=slots)
        chosen = self.choose(out.logits[0], desk.rows)
        add_all(desk.rows, chosen, self.stop_ids, self.heard)
        return desk.settle(chosen)

    def _words(self, ids: torch.Tensor, slots: Slots) -> torch.Tensor:
        """[1, T] the pass's ids; where virtual places have keys and values of their own, any word, and `slots` is told."""
        virtual = self.policy.virtual
        if virtual is None or virtual.layers is None:
            return ids
        behind = ids[0] - self.policy.vocabulary
        places = (behind >= 0).nonzero()[:, 0]
        slots.given = Given(virtual.layers(), places, behind[places]) if len(places) else None
        return ids.clamp_max(self.policy.vocabulary - 1)


class Online:
    """Rows come at any moment and join those that are on their way.

    Args:
        engine: what runs them.
        count: slots.
        places: of one slot; a row that needs more cannot come in.
    """

    def __init__(self, engine: Engine, count: int, places: int) -> None:
        self._engine = engine
        self._slots = Slots(count, places, 0, engine.policy.device, native=engine.policy.native)
        self._desk = Desk((), self._slots)

    @property
    def idle(self) -> bool:
        """Whether no row is here."""
        return self._desk.idle

    @property
    def busy(self) -> int:
        """Rows that hold a slot or wait for one."""
        return len(self._desk.waiting) + len(self._desk.rows) - self._desk.vacant

    def add(self, row: Row) -> None:
        """Let a row in; it joins the next pass that has a slot for it. Raises ValueError where it needs more places."""
        if row.need > self._slots.places:
            raise ValueError(f"a row of {row.need} places, and a slot has {self._slots.places}")
        self._desk.waiting.append(row)

    def run(self, between: Callable[[], bool]) -> Iterator[list[Row]]:
        """Pass after pass while there are rows and `between`, which is asked before each, says so; yields rows that are over."""
        with attending(self._engine.policy) as model:
            while between() and not self._desk.idle:
                yield self._engine.step(model, self._desk, self._slots)


class Desk:
    """Which row sits in which slot, and what the next pass must compute. Slots in use are always the first ones."""

    def __init__(self, waiting: Sequence[Row], slots: Slots) -> None:
        self.waiting, self.slots = deque(waiting), slots
        self.rows: list[Row] = []
        self.held = np.zeros((slots.count, slots.places), dtype=np.int64)
        """Ids whose keys and values the slots hold, [slots, places]."""
        self.length = np.zeros(slots.count, dtype=np.int64)
        """How many places of each slot hold something."""
        self.last = np.zeros(slots.count, dtype=np.int64)
        """The newest token of each row; the next pass computes its keys and values."""
        self._empty: list[int] = []

    @property
    def idle(self) -> bool:
        return not self.waiting and len(self.rows) == len(self._empty)

    @property
    def vacant(self) -> int:
        """Rows at the desk that are over and whose slots nobody has taken yet."""
        return len(self._empty)

    def plan_trunk(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Announce the pass of the trunk; returns its ids and positions, [1, T] each, and its last token, [1]."""
        self.slots.plan_trunk()
        place = np.arange(self.slots.trunk)
        ids = self.waiting[0].prompt[: self.slots.trunk]
        return self._tensor(ids)[None], self._tensor(place)[None], self._tensor(place[-1:])

    def plan(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Let rows join and announce the next pass; returns its ids and positions, [1, T] each, and its last tokens, [N].

        The last tokens are named one by one: a slice of them would make the product of the head copy its weights.
        """
        joined = self._join()
        count, places = len(self.rows), self.slots.places
        trunk = self.slots.trunk
        fresh = [(slot, 0) for slot, begin in joined if not trunk and begin == 0 and self.length[slot]]
        behind = [(slot, begin) for slot, begin in joined if (trunk or begin) and begin < self.length[slot]]
        spans = [(slot, begin, int(self.length[slot])) for slot, begin in (*fresh, *behind)]
        ends = self.length[:count] + 1
        place = np.concatenate([*(np.arange(begin, end) for _, begin, end in spans), self.length[:count]])
        slot = np.repeat(
            [*(slot for slot, _, _ in spans), *range(count)], [*(end - begin for _, begin, end in spans), *[1] * count]
        )
        self.held[np.arange(count), self.length[:count]] = self.last[:count]
        ids = self.held[slot, place]
        start = sum(int(self.length[slot]) for slot, _ in fresh)
        chunks = []
        for number, begin, end in spans[len(fresh) :]:
            chunks.append(Chunk(start, end - begin, number, end))
            start += end - begin
        used = int(ends.max())
        self.slots.plan(
            self._tensor(slot * places + place),
            self._tensor(ends),
            min(-(-used // ROUND) * ROUND, places),
            [int(self.length[slot]) for slot, _ in fresh],
            chunks,
            self._copies,
        )
        self.length[:count] += 1
        last = np.arange(len(ids) - count, len(ids))
        return self._tensor(ids)[None], self._tensor(place + trunk)[None], self._tensor(last)

    def settle(self, chosen: Sequence[int]) -> list[Row]:
        """Take the tokens of a pass; rows that are over get up, and are returned."""
        self.last[: len(self.rows)] = chosen
        self._empty = [slot for slot, row in enumerate(self.rows) if row.over]
        return [self.rows[slot] for slot in self._empty]

    def _join(self) -> list[tuple[int, int]]:
        """Waiting rows sit down; returns (slot, first place that must be computed) of each."""
        self._copies: list[Copy] = []
        count = self._joining()
        self._close_gaps(len(self._empty) - count)
        settled = np.arange(self.slots.count) < len(self.rows)
        settled[self._empty] = False
        joined: list[tuple[int, int]] = []
        for _ in range(count):
            row = self.waiting.popleft()
            if self._empty:
                slot = self._empty.pop()
                self.rows[slot] = row
            else:
                slot = len(self.rows)
                self.rows.append(row)
            settled[slot] = True
            prompt = row.prompt[self.slots.trunk :]
            begin = self._shared(slot, prompt[:-1], settled)
            self.length[slot] = len(prompt) - 1
            self.held[slot, : self.length[slot]] = prompt[:-1]
            self.last[slot] = prompt[-1]
            joined.append((slot, begin))
        return joined

    def _joining(self) -> int:
        """How many rows may sit down now."""
        free = self.slots.count - len(self.rows) + len(self._empty)
        tokens = count = 0
        before = np.empty(0, dtype=np.int64)
        for row in islice(self.waiting, free):
            tokens += len(row.prompt) - max(self.slots.trunk, _agreement(before, row.prompt))
            if count and tokens > JOINING_TOKENS:
                break
            before = row.prompt
            count += 1
        return count

    def _shared(self, slot: int, wanted: np.ndarray, settled: np.ndarray) -> int:
        """Find the slot that agrees longest with `wanted`, note the copy, and return how many tokens it saves.

        Slots whose row has left and that another may overwrite in this pass are no source, but for the row's own new one.
        """
        if len(wanted) < SHARED:
            return 0
        differs = self.held[:, : len(wanted)] != wanted
        agree = np.where(differs.any(axis=1), differs.argmax(axis=1), len(wanted))
        agree = np.where(settled, np.minimum(agree, self.length), 0)
        if agree[slot] >= SHARED and agree[slot] == agree.max():
            return int(agree[slot])
        source = int(agree.argmax())
        length = int(agree[source])
        if length < SHARED:
            return 0
        self._copies.append(Copy(source, slot, length))
        return length

    def _close_gaps(self, count: int) -> None:
        """Move the last rows into `count` of the slots that are empty, the rearmost."""
        for _ in range(count):
            slot, last = self._empty.pop(), len(self.rows) - 1
            if slot < last:
                length = int(self.length[last])
                self.slots.move(last, slot, length)
                self.rows[slot] = self.rows[last]
                self.held[slot, :length] = self.held[last, :length]
                self.length[slot], self.last[slot] = length, self.last[last]
            self.rows.pop()

    def _tensor(self, numbers: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64)).to(self.slots.device)


def _agreement(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two prompts have in common at their beginning."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length
