"""Data parallel training with a whole copy of the weights on every rank (what others call DDP).

Gradients lie in a few flat fp32 buckets. During the backward pass of the step's last micro-batch each bucket is added up
over all ranks as soon as its gradients are there, while those of the layers before are still being computed. Every rank
then takes the same optimiser step on the same numbers, so the copies stay equal, which `check` proves at every save.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from sartor.engine.parallel.world import World
from sartor.engine.precision import Masters
from sartor.errors import Problem, SartorError

BUCKET_BYTES = 25 << 20
"""Of gradients that travel together: large enough for bandwidth, small enough to start early."""


class _Bucket:
    """Gradients of some masters, one after the other in `flat`; each master's gradient is a view of it."""

    def __init__(self, masters: Mapping[str, torch.Tensor]) -> None:
        first = next(iter(masters.values()))
        self.names = list(masters)
        self.flat = torch.zeros(sum(m.numel() for m in masters.values()), dtype=torch.float32, device=first.device)
        parts = torch.split(self.flat, [master.numel() for master in masters.values()])
        self.views = {name: part.view_as(masters[name]) for name, part in zip(masters, parts, strict=True)}
        self.waiting = set(masters)
        self.sent: Any = None


class Replicas(Masters):
    """fp32 masters of named parameters, the same on every rank of `world`."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], world: World) -> None:
        super().__init__(parameters, world)
        self._buckets = [_Bucket({name: self.masters[name] for name in names}) for names in self._groups()]
        self._home = {name: bucket for bucket in self._buckets for name in bucket.names}
        self._counts = torch.zeros(len(self.masters))
        self._last = False
        self._touched: set[str] = set()
        self._writer = _spread({name: master.numel() for name, master in self.masters.items()}, world.size)
        self.clear()

    def _groups(self) -> list[list[str]]:
        """Names by bucket, the last layers' first: the backward pass reaches them first."""
        groups: list[list[str]] = []
        room = 0
        for name, master in reversed(self.masters.items()):
            if master.nbytes > room:
                groups.append([])
                room = BUCKET_BYTES
            groups[-1].append(name)
            room -= master.nbytes
        return groups

    def backward(self, total: torch.Tensor, *, last: bool = False) -> None:
        """As `Masters.backward`; with `last` the sums over the ranks begin."""
        self._last = last
        self._backward(total, self.parameters)

    @torch.no_grad()
    def _arrived(self, name: str, parameter: torch.Tensor) -> None:
        super()._arrived(name, parameter)
        self._touched.add(name)
        if self._last:
            self._home[name].waiting.discard(name)
            self._send(complete_only=True)

    def _send(self, *, complete_only: bool) -> None:
        """Start the sums of the next buckets; in their order, which is the same on every rank."""
        for bucket in self._buckets:
            if bucket.sent is not None:
                continue
            if complete_only and bucket.waiting:
                return
            bucket.sent = dist.all_reduce(bucket.flat, async_op=True)

    def reduce(self, numbers: torch.Tensor) -> None:
        """Start what has not been sent, wait for all, and learn which parameters any rank had a gradient for."""
        self._send(complete_only=False)
        for bucket in self._buckets:
            bucket.sent.wait()
        self._counts = torch.tensor([float(name in self._touched) for name in self.masters], device=numbers.device)
        self.world.sum_([numbers, self._counts])

    def settle(self) -> None:
        """Let parameters that no rank had a gradient for have none, as in one process."""
        for master, count in zip(self.masters.values(), self._counts.tolist(), strict=True):
            if not count:
                master.grad = None

    def clear(self) -> None:
        """Set all gradients to zero, in their buckets."""
        self._last = False
        self._touched.clear()
        for bucket in self._buckets:
            bucket.flat.zero_()
            bucket.waiting, bucket.sent = set(bucket.names), None
            for name, view in bucket.views.items():
                if self.masters[name] is not self.parameters[name]:
                    self.parameters[name].grad = None
                self.masters[name].grad = view

    def writes(self, name: str) -> bool:
        """Each rank writes some of the tensors, so that all write at the same time and nothing is written twice."""
        return self._writer[name] == self.world.rank

    def check(self, step: int) -> None:
        """Compare a checksum of the weights' bits over the ranks."""
        sums = torch.stack([m.detach().view(torch.int32).sum(dtype=torch.int64) for m in self.masters.values()])
        every = self.world.gather(hashlib.sha256(sums.cpu().numpy().tobytes()).hexdigest())
        others = [str(rank) for rank, digest in enumerate(every) if digest != every[0]]
        if others:
            raise SartorError(
                Problem(
                    "P130",
                    f"step {step}: the weights of rank {', '.join(others)} are not those of rank 0; nothing was saved",
                    fix="run the same command again, which resumes from the last checkpoint; mind that machine's memory",
                )
            )


def _spread(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """Name -> rank, the largest first to whoever has least."""
    load = [0] * ranks
    chosen = {}
    for name in sorted(sizes, key=lambda each: (-sizes[each], each)):
        chosen[name] = load.index(min(load))
        load[chosen[name]] += sizes[name]
    return chosen
