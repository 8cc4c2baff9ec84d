"""An encoder as objectives see it: rows side by side through the model's own forward pass, which sees both ways.

A scored place is learnt *at* its own position: `target` stands where `at` points, not behind it, as in masked language
modelling (Devlin et al. 2019, section 3.1). An objective builds the batch so.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sartor.models.padding import PaddedPolicy, Reader, Side

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch


class EncoderPolicy(PaddedPolicy):
    """Implements `Policy` for any encoder of transformers: masked language models and heads on them."""

    kind = "encoder"
    separator: int | None = None
    """The token after whose first appearance a row's second text begins, where the model tells the two apart."""

    @property
    def window(self) -> int | None:
        """Longest sequence the model was made for; less than its positions where these begin behind the padding's."""
        size = super().window
        for part in self.model.modules():
            if isinstance(part, torch.nn.Embedding) and part.num_embeddings == size and part.padding_idx is not None:
                return size - part.padding_idx - 1
        return size

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states; rows see only themselves."""
        return self._padded(batch).tokens(self._trunk)

    def _trunk(self, side: Side) -> torch.Tensor:
        states: torch.Tensor = self.model.base_model(**self._inputs(side)).last_hidden_state
        return states

    def _read(self, batch: Batch) -> torch.Tensor:
        """[N, H] what the output layer of the masked-language head reads at the scored places."""
        head = self.model.get_output_embeddings()

        def run(side: Side) -> torch.Tensor:
            return Reader(head).read(lambda: self.model(**self._inputs(side)))

        return self._padded(batch).tokens(run)[batch.at]

    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        return self._padded(batch).tokens(self._own)[batch.at].float()

    def _inputs(self, side: Side) -> dict[str, torch.Tensor]:
        inputs = super()._inputs(side)
        if self.separator is not None and self._has_types:
            ends = (side.ids == self.separator).to(torch.int64)
            inputs["token_type_ids"] = ((ends.cumsum(1) - ends) > 0).to(torch.int64) * side.mask
        return inputs

    @cached_property
    def _has_types(self) -> bool:
        takes = "token_type_ids" in inspect.signature(self.model.forward).parameters
        return takes and int(getattr(self.model.config, "type_vocab_size", 0) or 0) > 1


def separator(folder: Path) -> int | None:
    """The token after which the tokenizer of a folder begins the second of two texts; None: it does not tell them apart so.

    Asked of the tokenizer itself, whose token types must be what the model then derives from the ids.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    pair = tokenizer.encode("a", "a")
    if 1 not in pair.type_ids:
        return None
    before = pair.ids[pair.type_ids.index(1) - 1]
    first = pair.ids.index(before)
    return before if pair.type_ids == [int(place > first) for place in range(len(pair.ids))] else None
