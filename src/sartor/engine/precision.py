"""What the optimiser moves: fp32 master weights behind compute weights that may be bf16.

Gradients of all micro-batches are added up in fp32, so that accumulation loses nothing and 16 x 1 equals 1 x 16.
Where the compute weight is fp32 it is its own master and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


class Masters:
    """fp32 masters of named parameters."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        self.masters = {
            name: p if p.dtype == torch.float32 else p.detach().float().requires_grad_(True)
            for name, p in self.parameters.items()
        }

    @torch.no_grad()
    def absorb(self) -> None:
        """Add the gradients of the last backward pass to the masters and free them."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is parameter or parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

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
