"""One optimiser step: divide the summed gradient once, measure it, clip it, move the masters."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch

from sartor.engine.precision import Masters


def parameter_groups(masters: Mapping[str, torch.Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; biases, norms and other vectors are not."""
    matrices = [tensor for tensor in masters.values() if tensor.ndim >= 2]
    vectors = [tensor for tensor in masters.values() if tensor.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class Updater:
    """The optimiser over the masters of whatever is trainable.

    Args:
        optimizer: a component of kind optimizer, with its `options` and the peak `learning_rate`.
        clip_norm: largest gradient norm; 0 does not clip.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        optimizer: ModuleType,
        options: Any,
        *,
        learning_rate: float,
        clip_norm: float,
    ) -> None:
        if not parameters:
            raise ValueError("nothing is trainable")
        self.weights = Masters(parameters)
        self.learning_rate, self.clip_norm = learning_rate, clip_norm
        self._names = list(self.weights.masters)
        groups = parameter_groups(self.weights.masters, options.weight_decay)
        self._optimizer: torch.optim.Optimizer = optimizer.build(groups, options, learning_rate)

    def norm(self, divisor: torch.Tensor) -> torch.Tensor:
        """Divide the summed gradients by `divisor` and return their global L2 norm."""
        grads = [master.grad for master in self.weights.masters.values() if master.grad is not None]
        torch._foreach_div_(grads, divisor.to(grads[0].dtype))
        return torch.nn.utils.get_total_norm(grads)

    def apply(self, norm: torch.Tensor, factor: float) -> float:
        """Clip to `clip_norm`, take one step at `factor` of the peak rate; returns the rate used."""
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.weights.masters.values(), self.clip_norm, norm)
        rate = self.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self.weights.clear()
        self.weights.publish()
        return rate

    def finite(self) -> bool:
        """Whether every master weight is a finite number."""
        return all(bool(torch.isfinite(master).all()) for master in self.weights.masters.values())

    def weight_tensors(self) -> dict[str, torch.Tensor]:
        """Name -> fp32 master."""
        return {name: master.detach().contiguous() for name, master in self.weights.masters.items()}

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """The optimiser's running state as flat names, `parameter/quantity`."""
        flat = {}
        for name, master in self.weights.masters.items():
            for key, value in self._optimizer.state.get(master, {}).items():
                if isinstance(value, torch.Tensor):
                    flat[f"{name}/{key}"] = value.detach().contiguous()
        return flat

    def load(self, weights: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `weight_tensors` and `state_tensors` gave."""
        self.weights.load(weights)
        self._optimizer.state.clear()
        for name, tensor in state.items():
            owner, key = name.rsplit("/", 1)
            self._optimizer.state[self.weights.masters[owner]][key] = tensor.clone()
