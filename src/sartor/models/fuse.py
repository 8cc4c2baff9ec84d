"""Gives modules of a loaded model faster forward passes, each only where it is shown to give what the module gave before.

A module is made faster by putting a class of ours before its own, as PyTorch's fully_shard does: its parameters, names and
children stay, and whatever ours does not handle (a cache, another device, a compiler at work) goes on to its own forward.
What a module computes is not concluded from its name. One packed batch goes through the model as it is, the inputs of every
module are kept, and ours has to give the same output as the module's own class on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sartor.models.attention import How
from sartor.models.bounds import RowBounds
from sartor.models.native import ops
from sartor.models.native.library import Missing, kernels

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2}
"""Largest relative difference in norm that counts as rounding."""


class FastNorm(torch.nn.Module):
    """Before a module that is an RMSNorm over its last dimension."""

    weight: torch.Tensor
    _sartor_offset: float
    _sartor_eps: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        if not ops.fits(hidden_states, self.weight):
            return super().forward(hidden_states)  # type: ignore[no-any-return]
        return ops.rms_norm(hidden_states, self.weight, offset=self._sartor_offset, eps=self._sartor_eps)


class FastFeedForward(torch.nn.Module):
    """Before a module that is down(activation(gate(x)) * up(x))."""

    gate_proj: torch.nn.Module
    up_proj: torch.nn.Module
    down_proj: torch.nn.Module
    _sartor_activation: ops.Activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        if not ops.fits(x):
            return super().forward(x)  # type: ignore[no-any-return]
        inner: torch.Tensor = ops.gated(self.gate_proj(x), self.up_proj(x), self._sartor_activation)
        return self.down_proj(inner)  # type: ignore[no-any-return]


class FastAttention(torch.nn.Module):
    """Before a module that is rotary attention with separate projections, perhaps with norms of queries and keys."""

    q_norm: torch.nn.Module
    k_norm: torch.nn.Module
    q_proj: torch.nn.Module
    k_proj: torch.nn.Module
    v_proj: torch.nn.Module
    o_proj: torch.nn.Module
    head_dim: int
    attention_dropout: float
    _sartor_how: How

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        row_bounds: RowBounds | None = None,
        **rest: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[1, T, hidden] -> [1, T, hidden] and None."""
        layout = None if row_bounds is None else row_bounds.layout
        plain = past_key_values is None and not (self.training and self.attention_dropout)
        known = hidden_states.dtype == torch.bfloat16 and ops.fits(hidden_states) and rest.get("given") is None
        if layout is None or position_embeddings is None or not (plain and known):
            return super().forward(  # type: ignore[no-any-return]
                hidden_states=hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                row_bounds=row_bounds,
                **rest,
            )
        tokens, how = hidden_states.shape[1], self._sartor_how
        q, k, v = (
            part(hidden_states)[0].view(tokens, -1, self.head_dim) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        cos, sin = (part[0].contiguous() for part in position_embeddings)
        laid = ops.rows(layout.lengths, layout.continues)
        mixed = ops.attention(q, k, v, laid, scale=how.scaling, window=how.window or 0, cos=cos, sin=sin)
        return self.o_proj(mixed.view(1, tokens, -1)), None


@dataclass(frozen=True, slots=True)
class Seen:
    """A module's inputs in one forward pass."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]


Candidate = tuple[type[torch.nn.Module], dict[str, Any]]
"""A class that may be put before a module's own, and the attributes it needs."""


def fuse(model: PreTrainedModel, bounds: RowBounds, run: Callable[[], object]) -> tuple[bool, str]:
    """Make faster what can be; returns whether there are kernels, and what was done or why nothing was.

    `run` sends one packed batch through the model, whose rows `bounds` holds.
    """
    found = kernels()
    if isinstance(found, Missing):
        return False, f"plain PyTorch: {found.why}"
    bounds.asked = {}
    seen = watch(model, run)
    asked, bounds.asked, bounds.native = bounds.asked, None, found.attention
    done = put_before(seen, lambda module: fast_classes(module, asked.get(module) if found.attention else None))
    parts = [f"{count} {name}" for name, count in sorted((_WORDS[kind], count) for kind, count in done.items())]
    return True, "compiled kernels for " + ", ".join([*parts, "the head"])


def put_before(
    seen: dict[torch.nn.Module, Seen], classes: Callable[[torch.nn.Module], Iterator[Candidate]]
) -> Counter[type[torch.nn.Module]]:
    """Put the first class that is exact before each module's own; how many modules got each."""
    done: Counter[type[torch.nn.Module]] = Counter()
    for module, what in seen.items():
        for kind, settings in classes(module):
            if _try(module, kind, settings, what):
                done[kind] += 1
                break
    return done


_WORDS = {FastNorm: "norms", FastFeedForward: "feed-forward blocks", FastAttention: "attention blocks"}


def fast_classes(module: torch.nn.Module, how: How | None) -> Iterator[Candidate]:
    """(class, settings) that may fit a module; `how` is what it asks of its attention, where it is one."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if isinstance(weight, torch.Tensor) and weight.ndim == 1 and isinstance(eps, float):
        if getattr(module, "bias", None) is None:
            for offset in (0.0, 1.0):
                yield FastNorm, {"_sartor_offset": offset, "_sartor_eps": eps}
    elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")):
        for activation in ("silu", "gelu_tanh"):
            yield FastFeedForward, {"_sartor_activation": activation}
    elif (
        how is not None
        and how.softcap is None
        and all(hasattr(module, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim"))
        and hasattr(module, "attention_dropout")
    ):
        yield FastAttention, {"_sartor_how": how}


def watch(model: PreTrainedModel, run: Callable[[], object]) -> dict[torch.nn.Module, Seen]:
    """What goes into and comes out of the model's modules while `run` runs."""
    seen: dict[torch.nn.Module, Seen] = {}

    def keep(module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        seen[module] = Seen(arguments, named)

    with ExitStack() as stack, torch.no_grad():
        for module in model.modules():
            stack.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
        run()
    return seen


def _output(module: torch.nn.Module, seen: Seen) -> torch.Tensor:
    output = module(*seen.arguments, **seen.named)
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor.float()


def _floats(entry: Any) -> bool:
    return isinstance(entry, torch.Tensor) and entry.is_floating_point()


@torch.no_grad()
def _try(module: torch.nn.Module, kind: type[torch.nn.Module], settings: dict[str, Any], seen: Seen) -> bool:
    """Put `kind` before the module's own class if its output stays the same; whether it did.

    The module's own vectors are moved for the comparison: at their first values, all ones or zeros, unlike functions agree.
    """
    own = type(module)
    kept = [(vector, vector.clone()) for vector in module.parameters(recurse=False)]
    for vector, before in kept:
        vector.add_(
            0.2 * torch.linspace(-1, 1, before.numel(), dtype=before.dtype, device=before.device).view_as(before)
        )
    theirs = _output(module, seen)
    module.__class__ = type(f"{kind.__name__}{own.__name__}", (kind, own), {})
    for name, value in settings.items():
        setattr(module, name, value)
    try:
        ours = _output(module, seen)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        ours = torch.full_like(theirs, float("nan"))
    for vector, before in kept:
        vector.copy_(before)
    dtype = next(entry.dtype for entry in (*seen.arguments, *seen.named.values()) if _floats(entry))
    if (ours - theirs).norm() <= TOLERANCE[dtype] * theirs.norm().clamp_min(1e-9):
        return True
    module.__class__ = own
    for name in settings:
        delattr(module, name)
    return False
