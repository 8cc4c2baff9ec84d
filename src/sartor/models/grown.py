"""Tokens that the base does not have: rows for them in its embedding and its head, which move alone where an adapter is trained.

A fresh row is the mean of the rows of all tokens there were, so that next to nothing changes for the others (Hewitt 2021,
"Initializing New Word Embeddings for Pretrained Language Models"); an output bias likewise. Whether the head is tied to the
embedding stays as it was: tied, a token has one row for both, else one in each.

Rows that move are a view of the weights they lie in, so whatever reads these reads them. For gradients

    embedding(ids) + (row - stop(row))      and the head's weight as a node whose gradient is cut to the rows

add nothing to any number. Saved as PEFT saves `trainable_token_indices`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.base import ModelPolicy
    from sartor.tokens.growth import Growth

PREFIX, SUFFIX = "base_model.model.", ".token_adapter.trainable_tokens_delta"
"""Before and behind the name of a module in PEFT's file."""


@torch.no_grad()
def grow(model: PreTrainedModel, growth: Growth) -> None:
    """Give the model rows for new tokens; rows that were there as padding are used first."""
    embedding = model.get_input_embeddings()
    if embedding.weight.shape[0] < growth.end:
        model.resize_token_embeddings(growth.end, mean_resizing=False)
        model.requires_grad_(embedding.weight.requires_grad)
    weights = {id(part.weight): part.weight for part in _parts(model)}
    head = model.get_output_embeddings()
    bias = getattr(head, "bias", None)
    for weight in [*weights.values(), *([] if bias is None else [bias])]:
        weight[growth.first : growth.end] = weight[: growth.first].float().mean(dim=0).to(weight.dtype)


def _parts(model: PreTrainedModel) -> list[Any]:
    """Embedding and head."""
    head = model.get_output_embeddings()
    return [model.get_input_embeddings(), *([] if head is None else [head])]


def _still(model: PreTrainedModel) -> list[Any]:
    """Those of them that do not move as a whole."""
    return [part for part in _parts(model) if not part.weight.requires_grad]


class _Cut(torch.autograd.Function):
    """A weight that is held still, of which some rows are live."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, rows: torch.Tensor, first: int) -> torch.Tensor:
        ctx.span = slice(first, first + len(rows))
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        return None, grads[0][ctx.span], None


class Rows:
    """The rows of new tokens in a policy whose other weights are held still, by the name of the module they lie in.

    Args:
        policy: its model has the rows already.
        growth: which they are.
    """

    def __init__(self, policy: ModelPolicy, growth: Growth) -> None:
        model = policy.model
        names = {id(part): name for name, part in model.named_modules()}
        self.growth, self._span = growth, slice(growth.first, growth.end)
        self._held: dict[str, torch.Tensor] = {}
        for part in _still(model):
            if not any(part.weight is weight for weight in self._held.values()):
                self._held[names[id(part)]] = part.weight
        self.parameters = {name: torch.nn.Parameter(weight.data[self._span]) for name, weight in self._held.items()}
        self._start = {name: row.detach().clone() for name, row in self.parameters.items()}
        self._kept: dict[str, torch.Tensor] = {}
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and (row := self.of(module.weight)) is not None:
                module.register_forward_hook(self._looked_up(row))
        head = model.get_output_embeddings()
        if head is not None and (row := self.of(head.weight)) is not None:
            head.register_forward_hook(self._scored(row))

    def of(self, weight: torch.Tensor) -> torch.nn.Parameter | None:
        """The rows that lie in a weight; None where there are none in it."""
        return next((self.parameters[name] for name, held in self._held.items() if held is weight), None)

    def live(self, weight: torch.Tensor) -> torch.Tensor:
        """A weight with a gradient for its rows of new tokens."""
        rows = self.of(weight)
        if rows is None or not torch.is_grad_enabled():
            return weight
        made: torch.Tensor = _Cut.apply(weight, rows, self.growth.first)  # type: ignore[no-untyped-call]
        return made

    def _looked_up(self, rows: torch.nn.Parameter) -> Any:
        first, count = self.growth.first, len(rows)

        def hook(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
            if not torch.is_grad_enabled():
                return None
            ids = inputs[0] - first
            own = rows[ids.clamp(0, count - 1)] * getattr(module, "embed_scale", 1.0)
            there = ((ids >= 0) & (ids < count))[..., None]
            return output + torch.where(there, own - own.detach(), 0.0).to(output.dtype)

        return hook

    def _scored(self, rows: torch.nn.Parameter) -> Any:
        first, count = self.growth.first, len(rows)

        def hook(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
            if not torch.is_grad_enabled():
                return None
            own = torch.nn.functional.linear(inputs[0].detach(), rows)
            behind = output.shape[-1] - first - count
            return output + torch.nn.functional.pad(own - own.detach(), (first, behind))

        return hook

    @torch.no_grad()
    def on(self) -> None:
        """As they have been trained."""
        for name, row in self._kept.items():
            self.parameters[name].data.copy_(row)
        self._kept = {}

    @torch.no_grad()
    def off(self) -> None:
        """As they were when training began."""
        if not self._kept:
            self._kept = {name: row.detach().clone() for name, row in self.parameters.items()}
            for name, row in self._start.items():
                self.parameters[name].data.copy_(row)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is saved of them, under the names of PEFT's files."""
        held = self._kept or self.parameters
        return {f"{PREFIX}{name}{SUFFIX}": row.detach() for name, row in held.items()}

    def settings(self) -> list[int] | dict[str, list[int]]:
        """What PEFT calls `trainable_token_indices`."""
        ids = list(range(self.growth.first, self.growth.end))
        return ids if len(self.parameters) == 1 else {name.rpartition(".")[2]: ids for name in self.parameters}

    @torch.no_grad()
    def read(self, tensors: Mapping[str, torch.Tensor], file: str) -> None:
        """Take the rows of a file. Raises ModelError M121 where it has none of this shape for a module."""
        for name, row in self.parameters.items():
            found = tensors.get(f"{PREFIX}{name}{SUFFIX}")
            if found is None or found.shape != row.shape:
                what = f"the adapter has no rows for the new tokens in {name}"
                raise ModelError(Problem("M121", what, file=file, fix="use the base model this adapter was trained on"))
            row.data.copy_(found)


def train_rows(policy: ModelPolicy) -> None:
    """Let the rows of the policy's new tokens move, where embedding and head do not move as a whole."""
    from sartor.models.adapters import PeftAdapter

    if policy.growth is None or not _still(policy.model):
        return
    policy.rows = Rows(policy, policy.growth)
    if isinstance(policy.adapter, PeftAdapter):
        policy.adapter.rows = policy.rows
