"""An encoder-decoder as objectives see it: a row is a prompt and its answer, end to end as for any other model.

The encoder reads what stands before the first scored token, the decoder the scored ones moved on by one place behind the
model's own start token, so log-probabilities are those of transformers' own loss of (input_ids, labels). What stands behind
the last scored token is read by neither. A head on whole rows reads all of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.padding import Caught, PaddedPolicy, Reader, Side, groups, side_by_side, whole_rows

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

Run = Callable[[dict[str, Any]], torch.Tensor]
"""The model, called with these arguments -> [R, L, ...]"""
IGNORED = -100
"""Padding of labels in transformers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a row's answer lies in the flat batch."""

    begin: int
    """Of the row"""
    first: int
    """Of the answer"""
    places: range
    """Of its tokens among the batch's scored places"""


def answers(batch: Batch) -> list[Answer]:
    """The answer of each row that has one. Raises ModelError M142 where what is scored is not one stretch."""
    found: list[Answer] = []
    owners, at = batch.row.tolist(), batch.at.tolist()
    start, place = 0, 0
    for row, length in enumerate(batch.lengths):
        count = 0
        while place + count < len(owners) and owners[place + count] == row:
            count += 1
        if count:
            if at[place : place + count] != list(range(at[place], at[place] + count)):
                what = f"row {batch.rows[row]} has text that is not learnt between what is; a decoder's answer is one piece"
                raise ModelError(Problem("M142", what, fix="data.loss_on: last_answer"))
            found.append(Answer(start, at[place] + 1, range(place, place + count)))
        start, place = start + length, place + count
    return found


class EncoderDecoderPolicy(PaddedPolicy):
    """Implements `Policy` for any encoder-decoder of transformers."""

    kind = "encoder_decoder"

    @cached_property
    def start(self) -> int:
        """The token that every answer begins behind. Raises ModelError M144 where answers begin in different ways."""
        asked = self.model.prepare_decoder_input_ids_from_labels(
            labels=torch.tensor([[0, 0], [1, 1]], device=self.device)
        )
        first = asked[:, 0].tolist()
        if first[0] != first[1]:
            what = "this model begins an answer with its own last token, so where it begins cannot be told beforehand"
            raise ModelError(Problem("M144", what, fix="a model with one decoder_start_token_id, as T5 and BART have"))
        return int(first[0])

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states of the encoder over whole rows; the decoder's are read by `logits` and `values` alone."""
        encoder = self.model.get_encoder()
        padded = self._padded(batch)
        return padded.tokens(lambda side: encoder(input_ids=side.ids, attention_mask=side.mask).last_hidden_state)

    def _read(self, batch: Batch) -> torch.Tensor:
        """[N, H] what the output layer reads at the scored places."""
        head = self.model.get_output_embeddings()
        return self._decoded(batch, lambda inputs: Reader(head).read(lambda: self.model(**inputs)))

    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        return self._decoded(batch, lambda inputs: self.model(**inputs).logits).float()

    def _decoded(self, batch: Batch, run: Run) -> torch.Tensor:
        """[N, ...] what `run` gives at the decoder's places, [R, L, ...]."""
        whole_rows(batch.continues)
        found = answers(batch)
        if not found:
            return run(self._call(batch.ids[:, : batch.lengths[0]], None, batch.ids[:, :1]))[:, :0].flatten(0, 1)
        alike = (
            groups([one.first - one.begin for one in found]) if self.exact.packs else [[n] for n in range(len(found))]
        )
        sides = [[found[index] for index in members] for members in alike]
        read = torch.cat([self._side(batch.ids[0], members, run) for members in sides])
        places = [place for members in sides for one in members for place in one.places]
        return read[torch.argsort(torch.tensor(places)).to(read.device)]

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The output layer, and what the model adds behind it, as BART and Marian do."""
        weight, bias = super()._head()
        behind = getattr(self.model, "final_logits_bias", None)
        if behind is None:
            return weight, bias
        return weight, behind[0].to(weight.dtype) if bias is None else bias + behind[0]

    def _side(self, flat: torch.Tensor, members: list[Answer], run: Run) -> torch.Tensor:
        """[n, ...] the same for some rows, in their order. A prompt with several answers is read once."""
        prompts: dict[tuple[int, ...], int] = {}
        heard = flat.tolist()
        of = [prompts.setdefault(tuple(heard[one.begin : one.first]), len(prompts)) for one in members]
        asked = [members[of.index(number)] for number in range(len(prompts))]
        before = [one.first - one.begin for one in asked]
        ids = side_by_side(flat, [one.begin for one in asked], before, self.pad)
        mask = (torch.arange(ids.shape[1]) < torch.tensor(before)[:, None]).to(torch.int64).to(flat.device)
        lengths = [len(one.places) for one in members]
        labels = side_by_side(flat, [one.first for one in members], lengths, IGNORED)
        call = self._call(ids, mask, labels)
        if len(asked) < len(members):
            read = self.model.get_encoder()(input_ids=call.pop("input_ids"), attention_mask=mask, return_dict=True)
            which = torch.tensor(of, device=flat.device)
            read.last_hidden_state = read.last_hidden_state[which]
            call |= {"encoder_outputs": read, "attention_mask": mask[which]}
        take = torch.arange(labels.shape[1]) < torch.tensor(lengths)[:, None]
        return run(call).flatten(0, 1)[take.reshape(-1).nonzero()[:, 0].to(flat.device)]

    def _call(self, ids: torch.Tensor, mask: torch.Tensor | None, labels: torch.Tensor) -> dict[str, Any]:
        """What the model's forward pass is called with."""
        shifted = self.model.prepare_decoder_input_ids_from_labels(labels=labels)
        return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": shifted, "use_cache": False}

    def trunk(self, batch: Batch) -> torch.Tensor:
        """[T, H] what the head reads: the decoder's states of whole rows, of tags the encoder's."""
        if self.head is not None and self.head.place == "tokens":
            return self.hidden(batch)
        return self._padded(batch).tokens(lambda side: self._by_ends(side, self._decoder_states))

    def _decoder_states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return Caught(self.model.base_model).states(lambda: self.model(input_ids=ids, attention_mask=mask))

    def _own(self, side: Side) -> torch.Tensor:
        """The model's own logits of a side."""
        return self._by_ends(side, lambda ids, mask: self.model(input_ids=ids, attention_mask=mask).logits)

    def _by_ends(self, side: Side, run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Rows with as many end-of-text tokens together, as the pooling of these models wants them."""
        ends = (side.ids == self.model.config.eos_token_id).sum(1).tolist()
        alike = [[row for row, count in enumerate(ends) if count == wanted] for wanted in sorted(set(ends))]
        chosen = [torch.tensor(rows, device=side.ids.device) for rows in alike]
        try:
            found = [run(side.ids[rows], side.mask[rows]) for rows in chosen]
        except ValueError as fault:
            what = f"this model cannot read some row as a whole ({fault})"
            raise ModelError(Problem("M143", what, fix="rows that end with the end-of-text token")) from fault
        return torch.cat(found)[torch.argsort(torch.cat(chosen))]
