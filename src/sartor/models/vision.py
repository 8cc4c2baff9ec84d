"""A vision-text model as objectives see it: a row is its tokens, among them those that stand for images, and their pixels.

Any model of transformers' AutoModelForImageTextToText that puts what it sees in the place of tokens of its text. Positions,
masks and the way from pixels to tokens are the model's own, so rows go through it one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from sartor.errors import ModelError, Problem
from sartor.models.base import ModelPolicy
from sartor.tokens.batch import Batch, alone

if TYPE_CHECKING:
    from sartor.models.processor import Processor


class VisionPolicy(ModelPolicy):
    """Implements `Policy` for vision-text models.

    `processor` makes the pixels; None: nothing is ever shown. `moves_tower`: whether what looks at pixels is trained as well.
    """

    kind = "vision"
    processor: Processor | None = None
    moves_tower = False

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states."""
        return torch.cat([self._trunk(part) for part in alone(batch)])

    def _trunk(self, batch: Batch) -> torch.Tensor:
        state: torch.Tensor = self.model.base_model(**self.given(batch), use_cache=False).last_hidden_state[0]
        return state

    def given(self, batch: Batch) -> dict[str, Any]:
        """What the model is called with for a batch of one row. Raises ValueError for images without a processor."""
        images = batch.images[0] if batch.images else ()
        if images and self.processor is None:
            raise ValueError("this model was opened without a processor, so nothing can be shown to it")
        seen = batch.inputs or (self.processor.inputs(images, batch.ids) if self.processor is not None else {})
        return {"input_ids": batch.ids, "return_dict": True} | {name: self._taken(one) for name, one in seen.items()}

    def _taken(self, tensor: torch.Tensor) -> torch.Tensor:
        """An input in the type the model computes in, where it is one of numbers."""
        return tensor.to(self.device, self.model.dtype if tensor.is_floating_point() else tensor.dtype)

    def _read(self, batch: Batch) -> torch.Tensor:
        """[N, H] hidden states at the scored places."""
        return self.hidden(batch)[batch.at]

    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        found = []
        for part in alone(batch):
            logits = self.model(**self.given(part), use_cache=False).logits[0]
            found.append(logits[part.at].float())
        return torch.cat(found)

    def _score(self, batch: Batch) -> torch.Tensor:
        raise ValueError("vision-text models have no head in place of words")

    def looks(self) -> list[Batch]:
        """A row with an image, and the same with another image, to be measured with. Raises ModelError M116 where the model does not take it."""
        if self.processor is None:
            return []
        found = [batch.to(self.device) for batch in self.processor.trial(self.vocabulary)]
        try:
            with torch.no_grad():
                self.model(**self.given(found[0]))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as fault:
            what = f"the model does not take what its processor makes of an image: {fault}"
            raise ModelError(Problem("M116", what, file=str(self.processor.folder), fix="another base")) from fault
        return found

    @cached_property
    def tower(self) -> tuple[str, ...]:
        """Paths of the parts that look at pixels: models of their own inside of the model, beside the one of words."""
        words = self.model.get_decoder()
        trunk = self.model.base_model
        found = [part for part in trunk.children() if isinstance(part, PreTrainedModel) and part is not words]
        return tuple(name for name, part in self.model.named_modules() if any(part is one for one in found))

    def release(self) -> None:
        """Let every weight of the model move, those of the tower only where they are to."""
        self.model.requires_grad_(True)
        if not self.moves_tower:
            for name in self.tower:
                self.model.get_submodule(name).requires_grad_(False)

    def linear_layers(self) -> Iterator[str]:
        """Paths of the linear layers that an adapter may change: those of the part with words, and the tower's where it moves."""
        words = self.model.get_decoder()
        where = [name for name, part in self.model.named_modules() if part is words]
        inside = (*where, *(self.tower if self.moves_tower else ()))
        for name, part in self.model.named_modules():
            if isinstance(part, torch.nn.Linear) and name.startswith(tuple(f"{one}." for one in inside)):
                yield name
