"""One optimiser step: divide the summed gradient once, measure it, clip it, move the masters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import torch

from sartor.engine.anchor import Anchor
from sartor.engine.precision import Masters

NO_RATES: Mapping[str, float] = MappingProxyType({})
"""Every parameter takes the learning rate itself."""


def parameter_groups(
    masters: Mapping[str, torch.Tensor],
    weight_decay: float,
    *,
    tables: Collection[str] = (),
    rates: Mapping[str, float] = NO_RATES,
) -> list[dict[str, Any]]:
    """Masters that are treated alike, as torch's optimisers take them.

    Matrices are decayed; biases, norms and other vectors are not. Each group says whether it holds `table`s (embeddings and
    output heads, by name) and which multiple of the learning rate it takes (`rate`, from `rates` by name, else 1).
    """
    groups: dict[tuple[bool, bool, float], list[torch.Tensor]] = {}
    for name, tensor in masters.items():
        groups.setdefault((tensor.ndim >= 2, name in tables, rates.get(name, 1.0)), []).append(tensor)
    return [
        {"params": tensors, "weight_decay": weight_decay if matrices else 0.0, "table": table, "rate": rate}
        for (matrices, table, rate), tensors in groups.items()
    ]


class Updater:
    """The optimiser over the masters of whatever is trainable.

    Args:
        parameters: what moves, by name; or their masters, where several processes hold them together.
        optimizer: a component of kind optimizer, with its `options` and the peak `learning_rate`.
        clip_norm: largest gradient norm; 0 does not clip.
        tables: names of embeddings and output heads, which some optimisers move differently.
        rates: name -> multiple of the learning rate, where a method asks for one.
        anchor: what pulls the weights towards their start.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter] | Masters,
        optimizer: ModuleType,
        options: Any,
        *,
        learning_rate: float,
        clip_norm: float,
        tables: Collection[str] = (),
        rates: Mapping[str, float] = NO_RATES,
        anchor: Anchor | None = None,
    ) -> None:
        self.anchor = anchor
        self.penalty: torch.Tensor | None = None
        """[] what the anchor added to the mean loss at the last step."""
        self.weights = parameters if isinstance(parameters, Masters) else Masters(parameters)
        if not self.weights.masters:
            raise ValueError("nothing is trainable")
        self.learning_rate, self.clip_norm = learning_rate, clip_norm
        self._names = list(self.weights.masters)
        groups = parameter_groups(self.weights.masters, options.weight_decay, tables=tables, rates=rates)
        self._optimizer: torch.optim.Optimizer = optimizer.build(groups, options, learning_rate)

    @torch.no_grad()
    def norm(self, divisor: torch.Tensor) -> torch.Tensor:
        """Divide the summed gradients by `divisor`, let the anchor pull, and return their global L2 norm."""
        self.weights.settle()
        grads = self._gradients()
        if grads:
            torch._foreach_div_(grads, divisor.to(grads[0].dtype))
        if self.anchor is not None:
            self.penalty = self.anchor.pull(self.weights)
            grads = self._gradients()
        return self.weights.norm(grads).to(divisor.device)

    def _gradients(self) -> list[torch.Tensor]:
        return [master.grad for master in self.weights.masters.values() if master.grad is not None]

    def apply(self, norm: torch.Tensor, factor: float) -> float:
        """Clip to `clip_norm`, take one step at `factor` of the peak rate; returns the rate used."""
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.weights.masters.values(), self.clip_norm, norm)
        rate = self.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self._optimizer.step()
        self.weights.clear()
        self.weights.publish()
        return rate

    def finite(self) -> bool:
        """Whether every master weight of every rank is a finite number."""
        bad = torch.stack([master.detach().isfinite().logical_not().sum() for master in self.weights.masters.values()])
        total = bad.sum(dim=0, keepdim=True)
        self.weights.world.sum_([total])
        return not bool(total)

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
        fused = self._optimizer.defaults.get("fused") or self._optimizer.defaults.get("capturable")
        on_host = () if fused else ("step",)
        for name, tensor in state.items():
            owner, key = name.rsplit("/", 1)
            master = self.weights.masters[owner]
            self._optimizer.state[master][key] = tensor.to("cpu" if key in on_host else master.device, copy=True)
