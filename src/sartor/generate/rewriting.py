"""Text out of encoder-decoders and masked models: other uses of a model than going on with a text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sartor.models.hf import load_masked, load_rewriter
from sartor.protocols import MASK

TOGETHER = 16
"""Texts computed together where nothing is drawn."""
CANDIDATES = 40
"""Words that a masked model is asked for; parts of words among them are left out."""
BEFORE = ("Ġ", "▁")
"""Stand in tokens for the space before a word."""


class Rewriter:
    """Implements `Writer` on a folder with an encoder-decoder, of translation for instance.

    Every answer that is drawn has a random stream of its own, made from (seed, the text), so it does not depend on the others.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._model, self._tokenizer = load_rewriter(folder, device)
        self._device = device

    @torch.no_grad()
    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        """Yields (index of the prompt, its answer). temperature 0 takes the likeliest token each time."""
        size = 1 if temperature else TOGETHER
        for begin in range(0, len(prompts), size):
            given = list(prompts[begin : begin + size])
            batch = self._tokenizer(given, return_tensors="pt", padding=True, truncation=True).to(self._device)
            drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
            with torch.random.fork_rng():
                torch.manual_seed(stream(seed, given[0]))
                ids = self._model.generate(**batch, max_new_tokens=max_new_tokens, num_beams=1, **drawn)
            texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
            yield from ((begin + place, text.strip()) for place, text in enumerate(texts))


class Filler:
    """Implements `Writer` on a folder with a masked model: words for the `MASK` of each text, the likeliest first, one a line."""

    def __init__(self, folder: Path, device: str) -> None:
        self._model, self._tokenizer = load_masked(folder, device)
        self._device = device

    @torch.no_grad()
    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        """Yields (index of the text, its words); nothing is drawn here. A text too long for the model has no words."""
        for place, prompt in enumerate(prompts):
            text = prompt.replace(MASK, self._tokenizer.mask_token)
            batch = self._tokenizer(text, return_tensors="pt", truncation=True).to(self._device)
            at = (batch["input_ids"][0] == self._tokenizer.mask_token_id).nonzero()
            if len(at) != 1:
                yield place, ""
                continue
            logits = self._model(**batch).logits[0, int(at[0])]
            best = logits.topk(min(CANDIDATES, len(logits))).indices.tolist()
            yield place, "\n".join(self._words(best))

    def _words(self, ids: Sequence[int]) -> list[str]:
        """Those tokens that are whole words."""
        tokens = self._tokenizer.convert_ids_to_tokens(ids)
        marked = any(token.startswith(BEFORE) for token in self._tokenizer.get_vocab())
        whole = [token for token in tokens if (token.startswith(BEFORE) if marked else not token.startswith("##"))]
        words = [self._tokenizer.convert_tokens_to_string([token]).strip() for token in whole]
        return [word for word in dict.fromkeys(words) if word.isalpha()]


def stream(seed: int, text: str) -> int:
    """A seed for what is drawn for one text."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {text}".encode(), digest_size=7).digest(), "little")
