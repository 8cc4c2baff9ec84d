"""A pull of the weights towards where training began, added to the mean loss of every step:

    penalty = strength/2 sum_j f_j (w_j - w0_j)^2        gradient: strength f_j (w_j - w0_j)

f is what an anchor of `engine.anchors` finds important, or 1. The gradient is added to the masters' in closed form, once a step,
after the summed gradients were divided: it costs no graph, and no cut into micro-batches and no number of ranks changes it. w0 is
what the masters are when the anchor is made, before a checkpoint is read: the base, whatever step training resumes from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sartor.engine.precision import Masters


class Anchor:
    """Holds the masters of this process.

    Args:
        weights: the masters, at their start.
        strength: factor of the penalty.
        importance: name -> f, of the shape of the master; None: 1 for all.
    """

    def __init__(self, weights: Masters, strength: float, importance: Mapping[str, torch.Tensor] | None = None) -> None:
        self._strength = strength
        self._start = {name: master.detach().clone() for name, master in weights.masters.items()}
        self._importance = None
        if importance is not None:
            self._importance = {name: importance[name].to(start.device) for name, start in self._start.items()}

    @torch.no_grad()
    def pull(self, weights: Masters) -> torch.Tensor:
        """Add the gradient of the penalty to the masters' gradients; [] the penalty over all ranks' masters."""
        total = torch.zeros((), device=next(iter(weights.masters.values())).device)
        for name, master in weights.masters.items():
            gap = master.detach() - self._start[name]
            pull = gap if self._importance is None else gap * self._importance[name]
            total += (pull * gap).sum()
            if master.grad is None:
                master.grad = pull * self._strength
            else:
                master.grad.add_(pull, alpha=self._strength)
        return weights.total(total) * (self._strength / 2)
