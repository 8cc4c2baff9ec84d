"""Translates prompts into another language and back, so that they come home in other words.

    augment: [{back_translate: {model: opus-mt-en-de/, back: opus-mt-de-en/}}]
    augment: [{back_translate: {model: my-model, endpoint: "http://127.0.0.1:8000/v1", through: German, language: English}}]

Source: Sennrich et al. 2016, "Improving Neural Machine Translation Models with Monolingual Data"; as an augmentation Edunov
et al. 2018, "Understanding Back-Translation at Scale" (sampling on the way there) and Xie et al. 2020, "UDA". With `back`,
both are folders of encoder-decoders; without, one chat model is asked to translate. A text that comes back without one of its
numbers, links, names or quotations, or without a word that the answer repeats, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from sartor.data.making import Asking, Bench, Made, Protecting, Seeded
from sartor.data.retelling import retold
from sartor.protocols import Speaker
from sartor.recipe.schema import Rule

__all__ = ["Options", "make"]


class Options(Asking, Protecting):
    """Who translates, and through which language."""

    back: str | None = None
    """Folder of the encoder-decoder that translates back; model is the one that translates there then."""
    through: Annotated[str, Field(min_length=2)] = "German"
    """The language in between, as a chat model is told."""
    language: Annotated[str, Field(min_length=2)] = "English"
    """The language of the prompts, as a chat model is told."""
    copies: Annotated[int, Field(ge=1, le=20)] = 1
    """Rows made from each row."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.back is not None and self.endpoint is not None:
            raise Rule("back names a folder; an endpoint translates both ways by itself", "back")
        return self


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """Rows whose prompts went there and back."""

    def tell(texts: Sequence[str], copy: int) -> Sequence[str]:
        seed = bench.seed + copy
        there = bench.answers.ask(
            _there(options),
            _asked(options, texts, options.through),
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=seed,
        )
        back = _asked(options, [text.strip() or "-" for text in there], options.language)
        return bench.answers.ask(_home(options), back, max_new_tokens=options.max_new_tokens, seed=seed)

    return retold(rows, bench, tell, copies=options.copies, protect=options.protect, answer_words=options.answer_words)


def _there(options: Options) -> Speaker:
    return options.speaker() if options.back is None else Speaker(options.model, "rewrite")


def _home(options: Options) -> Speaker:
    return options.speaker() if options.back is None else Speaker(options.back, "rewrite")


def _asked(options: Options, texts: Sequence[str], language: str) -> Sequence[str]:
    if options.back is not None:
        return texts
    order = f"Translate the following text into {language}. Answer with the translation alone."
    return [f"{order}\n\n{text}" for text in texts]
