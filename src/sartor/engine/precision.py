"""What the optimiser moves: fp32 master weights behind compute weights that may be bf16.

Gradients of all micro-batches are added up in fp32, so that accumulation loses nothing and 16 x 1 equals 1 x 16.
Where the compute weight is fp32 it is its own master and nothing is copied.

How weights are held is all that several processes change about training, so it is all here: `Masters` for one process,
`engine.parallel.replicas` for whole copies on every rank, `engine.parallel.shards` for rows of them on each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from sartor.engine.parallel.world import ALONE, World
from sartor.models.base import ModelPolicy
from sartor.protocols import Loss
from sartor.store.tensors import Part
from sartor.tokens.batch import Batch

Objective = Callable[[ModelPolicy, Batch], Loss]


class Masters:
    """fp32 masters of named parameters, in one process."""

    lockstep = False
    """Whether every rank has to run the same number of micro-batches."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], world: World = ALONE) -> None:
        self.world = world
        self.parameters = dict(parameters)
        self.masters = {name: self._master(parameter) for name, parameter in self.parameters.items()}

    def _master(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        if parameter.dtype == torch.float32:
            return parameter
        if hasattr(parameter, "grad_dtype"):  # torch 2.10: what is found in fp32 need not be rounded on its way
            parameter.grad_dtype = torch.float32
        return parameter.detach().float().requires_grad_(True)

    def loss(self, objective: Objective, policy: ModelPolicy, batch: Batch) -> Loss:
        """The objective's sums over a batch on the policy's device."""
        return objective(policy, batch)

    def backward(self, total: torch.Tensor, *, last: bool = False) -> None:
        """Add the gradients of `total` to the masters, each as soon as it is there. `last`: of this step's micro-batches."""
        self._backward(total, {name: p for name, p in self.parameters.items() if self.masters[name] is not p})

    def _backward(self, total: torch.Tensor, watched: Mapping[str, torch.nn.Parameter]) -> None:
        """Backward pass that calls `_arrived` for each watched parameter as soon as its gradient is there."""
        hooks: list[Any] = []
        for name, parameter in watched.items():
            hooks.append(parameter.register_post_accumulate_grad_hook(partial(self._arrived, name)))  # type: ignore[no-untyped-call]
        try:
            total.backward()  # type: ignore[no-untyped-call]
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _arrived(self, name: str, parameter: torch.Tensor) -> None:
        master = self.masters[name]
        if master is parameter or parameter.grad is None:
            return
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            master.grad.add_(parameter.grad)
        parameter.grad = None

    def absorb(self) -> None:
        """Add to the masters what a backward pass outside of `backward` left in the parameters."""
        for name, parameter in self.parameters.items():
            self._arrived(name, parameter)

    def reduce(self, numbers: torch.Tensor) -> None:
        """Add up the step's gradients, and `numbers` beside them, over all ranks in place. Once a step, after `backward`."""

    def settle(self) -> None:
        """Let parameters that no rank had a gradient for have none. After `reduce`, before gradients are changed."""

    def norm(self, grads: Sequence[torch.Tensor]) -> torch.Tensor:
        """[] L2 norm of all the masters' gradients, given those of this rank."""
        return torch.nn.utils.get_total_norm(grads)

    def total(self, number: torch.Tensor) -> torch.Tensor:
        """[] the sum over all the masters, given that over those numbers that this rank holds."""
        return number

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the compute weights."""
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                parameter.copy_(self.masters[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Set masters and compute weights from tensors of the same names."""
        for name, master in self.masters.items():
            master.copy_(tensors[name])
        self.publish()

    def clear(self) -> None:
        """Drop all gradients."""
        for name, parameter in self.parameters.items():
            parameter.grad = None
            self.masters[name].grad = None

    def part(self, name: str) -> Part | None:
        """Which rows of a parameter its master holds here; None: all of it."""
        return None

    def writes(self, name: str) -> bool:
        """Whether this rank writes the master of a parameter, or its rows, into a checkpoint."""
        return True

    def check(self, step: int) -> None:
        """Raise SartorError P130 where ranks that should hold the same weights do not."""
