"""Text from a model in this process.

With temperature 0 every row gets the tokens it would get alone; with a temperature every continuation has a random stream of
its own, made from (seed, index of the prompt, sample), so what is drawn for it does not depend on its neighbours. Both hold up
to rounding: products of other shapes are rounded differently, which in bfloat16 can decide between tokens that are almost
equally likely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.errors import ModelError, Problem
from sartor.generate.encoder_decoder import run_encoder_decoder
from sartor.generate.engine import Choose, Engine, Heard, share_out
from sartor.generate.padded import run_padded
from sartor.generate.probe import obstacle
from sartor.generate.rows import Completion, Decode, Listener, Row, Speech
from sartor.generate.sampling import Sampling, choose, logp_of
from sartor.generate.vision import run_vision
from sartor.models.encoder_decoder import EncoderDecoderPolicy
from sartor.models.policy import CausalPolicy
from sartor.models.vision import VisionPolicy

if TYPE_CHECKING:
    from sartor.data.rows import Image
    from sartor.models.base import ModelPolicy

GREEDY = Sampling()
Images = Sequence[tuple["Image", ...]]
"""What each prompt shows."""


def _writes_nothing(policy: ModelPolicy) -> ModelError:
    what = "an encoder" if policy.head is None else f"a model with a head of {policy.head.kind} in place of words"
    return ModelError(Problem("M145", f"{what} writes no text", fix="a decoder or an encoder-decoder with its words"))


class LocalGenerator:
    """Implements `TextGenerator` on a policy.

    Args:
        policy: the model; its adapter, where it has one, is used as it is switched.
        stop_ids: tokens that end an answer; they are not part of the text.
        pad_id: any token of the vocabulary; it is masked.
        decode: ids of an answer, without the stop token, to text.
        batch: rows generated together, at most.
    """

    def __init__(self, policy: ModelPolicy, stop_ids: frozenset[int], pad_id: int, decode: Decode, batch: int) -> None:
        self.policy, self.stop_ids, self.pad_id, self.decode, self.batch = policy, stop_ids, pad_id, decode, batch
        self.obstacle: str | None = None
        """Why rows are padded and wait for each other, once something was generated that way."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        temperature: float = 0.0,
        seed: int = 0,
        samples: int = 1,
        listen: Listener | None = None,
        images: Images | None = None,
    ) -> Iterator[tuple[int, str, bool]]:
        """Yields (index of the prompt, text, ended by itself) of `samples` continuations of each prompt; see `complete`."""
        made = self.complete(
            prompts,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature),
            seed=seed,
            samples=samples,
            listen=listen,
            images=images,
        )
        for one in made:
            yield one.index, one.text, one.stopped

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        sampling: Sampling = GREEDY,
        seed: int = 0,
        samples: int = 1,
        logp: bool = False,
        listen: Listener | None = None,
        images: Images | None = None,
    ) -> Iterator[Completion]:
        """Yields `samples` continuations of each prompt, in the order they finish.

        A row ends at a stop token, after `max_new_tokens` (one number, or one for each prompt), or where the model's window
        is full. The weights must not change before the last one is out: what was computed of a row is kept.

        Args:
            logp: also the log-probability of every chosen token.
            listen: told of every token, for one continuation of each prompt.
            images: what each prompt shows; None: nothing.

        Raises:
            ValueError: an empty prompt; a listener for several samples; images for a model that cannot see.
        """
        if listen is not None and samples > 1:
            raise ValueError("a listener hears one continuation of each prompt, not several")
        if images is not None and any(images) and not isinstance(self.policy, VisionPolicy):
            raise ValueError("this model reads text alone")
        rows = self._rows(prompts, max_new_tokens, seed, samples, images)

        def pick(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
            chosen = choose(logits, rows, sampling)
            if logp:
                for row, value in zip(rows, logp_of(logits, chosen).tolist(), strict=True):
                    row.logp.append(value)
            tokens: list[int] = chosen.tolist()
            return tokens

        for bunch in self._run([row for row in rows if row.limit > 0], pick, self._teller(listen)):
            for row in bunch:
                yield row.completion(self.decode)
        for row in rows:
            if row.limit <= 0:
                yield row.completion(self.decode)

    def _rows(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int | Sequence[int],
        seed: int,
        samples: int,
        images: Images | None,
    ) -> list[Row]:
        virtual = self.policy.virtual
        before = np.empty(0, np.int64) if virtual is None else virtual.ids(self.policy.vocabulary).numpy()
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
        rows = []
        for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            if not len(prompt):
                raise ValueError(f"prompt {index} is empty; a model continues from at least one token")
            ids = np.concatenate([before, np.asarray(prompt, dtype=np.int64)])
            room = self._room(ids, limit)
            shown = images[index] if images is not None else ()
            rows += [
                Row(index, sample, ids, room, np.random.default_rng([seed, index, sample]), images=shown)
                for sample in range(samples)
            ]
        return rows

    def _room(self, prompt: np.ndarray, limit: int) -> int:
        """How many tokens of an answer there may be; an encoder-decoder has a window for the answer alone."""
        if self.policy.window is None:
            return limit
        taken = 0 if isinstance(self.policy, EncoderDecoderPolicy) else len(prompt)
        return min(limit, self.policy.window - taken)

    def _run(self, rows: list[Row], pick: Choose, heard: Heard | None) -> Iterator[list[Row]]:
        if not rows:
            return
        if isinstance(self.policy, EncoderDecoderPolicy):
            yield from run_encoder_decoder(self.policy, self.stop_ids, pick, heard, rows, self.batch)
            return
        if isinstance(self.policy, VisionPolicy):
            yield from run_vision(self.policy, self.stop_ids, pick, heard, rows)
            return
        if not isinstance(self.policy, CausalPolicy) or self.policy.head is not None:
            raise _writes_nothing(self.policy)
        self.obstacle = obstacle(self.policy)
        if self.obstacle is not None:
            yield from run_padded(self.policy, self.stop_ids, self.pad_id, pick, heard, rows, self.batch)
            return
        engine = Engine(self.policy, self.stop_ids, pick, heard)
        for share in share_out(rows, self.batch):
            yield from engine.run(share)

    def _teller(self, listen: Listener | None) -> Heard | None:
        if listen is None:
            return None
        speeches: dict[int, Speech] = {}

        def heard(row: Row) -> None:
            speech = speeches.setdefault(row.index, Speech(self.decode))
            listen(row.index, speech.text(row.answer))

        return heard
