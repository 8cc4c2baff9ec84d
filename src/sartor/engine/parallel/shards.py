"""Data parallel training with the weights cut over the ranks: torch's `fully_shard` (FSDP2) around each decoder layer.

Every rank holds some rows of every weight, of its gradient and of the optimiser's state. A layer's weights are whole only
while it computes. The masters are the local rows themselves in fp32, plain tensors: a rule that looks at one number at a
time, as Adam's, moves them exactly as it would move the whole. Gradients are added up over the ranks, never averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from sartor.engine.parallel.world import World
from sartor.engine.precision import Masters, Objective
from sartor.models.base import ModelPolicy
from sartor.models.compile import decoder_layers
from sartor.protocols import Loss
from sartor.store.tensors import Part
from sartor.tokens.batch import Batch

Sums = tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


class TrainStep(torch.nn.Module):
    """Runs a whole objective in its forward pass, so that every weight an objective reaches for is whole by then."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Sums]) -> Sums:
        """Whatever `work` returns."""
        return work()


class Shards(Masters):
    """fp32 masters of the rows that this rank holds; `policy.model` is cut in place."""

    lockstep = True

    def __init__(self, policy: ModelPolicy, world: World, dtype: torch.dtype) -> None:
        """`dtype` is what the model computes in. The policy's device becomes the world's."""
        self._outer = _cut(policy, world, dtype)
        policy.device = world.device
        super().__init__(policy.trainable(), world)

    def _master(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        assert isinstance(parameter, DTensor)
        assert parameter.dtype == torch.float32
        with torch.no_grad():
            local: torch.Tensor = parameter.to_local()
        return local.detach().requires_grad_(True)

    def loss(self, objective: Objective, policy: ModelPolicy, batch: Batch) -> Loss:
        """The objective's sums over a batch."""
        total, weight, metrics = self._outer(partial(_sums, objective, policy, batch))
        return Loss(total, weight, metrics)

    def backward(self, total: torch.Tensor, *, last: bool = False) -> None:
        """Leaves each rank the summed gradients of its rows, added to those of earlier micro-batches."""
        total.backward()  # type: ignore[no-untyped-call]

    def reduce(self, numbers: torch.Tensor) -> None:
        """The gradients are summed already; take them over."""
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            self.masters[name].grad = gradient.to_local() if isinstance(gradient, DTensor) else None
        self.world.sum_([numbers])

    def norm(self, grads: Sequence[torch.Tensor]) -> torch.Tensor:
        """Over all ranks' rows."""
        return self.total(super().norm(grads).square()).sqrt()

    def total(self, number: torch.Tensor) -> torch.Tensor:
        """Over all ranks' rows."""
        number = number.clone()
        self.world.sum_([number])
        return number

    def publish(self) -> None:
        """The masters are the weights; the next forward pass collects and rounds them."""

    def part(self, name: str) -> Part:
        """The same rows that `fully_shard` gives this rank: even chunks, the last ones shorter or empty."""
        rows = self.parameters[name].shape[0]
        chunk = -(-rows // self.world.size)
        start = min(rows, self.world.rank * chunk)
        part = Part(start, min(rows, start + chunk), rows)
        assert part.stop - part.start == self.masters[name].shape[0]
        return part


def _sums(objective: Objective, policy: ModelPolicy, batch: Batch) -> Sums:
    loss = objective(policy, batch)
    return loss.total, loss.weight, {name: value.detach() for name, value in loss.metrics.items()}


def _cut(policy: ModelPolicy, world: World, dtype: torch.dtype) -> TrainStep:
    """Cut every decoder layer by itself and the rest together. Layers move to the ranks' device one at a time."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    mixed = MixedPrecisionPolicy(
        param_dtype=None if dtype == torch.float32 else dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    outer = TrainStep(policy.model)
    for module in [*decoder_layers(policy), outer]:
        for parameter in module.parameters():
            if parameter.requires_grad and not isinstance(parameter, DTensor):
                parameter.data = parameter.data.float()
        cut = fully_shard(module, mesh=mesh, mp_policy=mixed, reshard_after_forward=True)
        assert isinstance(cut, FSDPModule)
        cut.set_gradient_divide_factor(1.0)
        cut.set_force_sum_reduction_for_comms(True)
    loose = [name for name, parameter in policy.model.named_parameters() if not isinstance(parameter, DTensor)]
    assert not loose, f"not cut: {loose}"
    return outer
