"""Words prompts differently with the help of a model.

    augment: [{paraphrase: {model: bert-base-uncased/, rate: 0.15}}]
    augment: [{paraphrase: {by: chat, model: my-model, endpoint: "http://127.0.0.1:8000/v1"}}]

By a masked model: single words, each chosen among the likeliest in its place while the model reads the whole text before it
(Qiang et al. 2020, "LSBert: Lexical Simplification Based on BERT", section 3.1), so that opposites, which fit as well, come
less often; look at what is made all the same. By a chat model: the text as a whole, which is left out where a number, link,
name, quotation or a word that the answer repeats got lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sartor.data.making import Asking, Bench, Made, Protecting, Seeded, Share, chosen, learnt, prompts, with_prompts
from sartor.data.protected import Guard, Span, like, replaced, words_of
from sartor.data.retelling import TOGETHER, retold
from sartor.protocols import MASK, Speaker
from sartor.recipe.schema import Rule

__all__ = ["Options", "make"]

ORDER = (
    "Say the following text in other words. Keep its meaning, its language, and every number, name, link and quotation. "
    "Answer with the new text alone."
)


class Options(Asking, Protecting):
    """Which model, and how much is changed."""

    by: Literal["mask", "chat"] = "mask"
    """A masked model replaces single words; a chat model tells the text anew."""
    rate: Share = 0.15
    """By a masked model: share of the words that is changed, of those that may be."""
    choices: Annotated[int, Field(ge=1)] = 5
    """By a masked model: likeliest words that one is drawn from."""
    copies: Annotated[int, Field(ge=1, le=20)] = 1
    """Rows made from each row."""

    @model_validator(mode="after")
    def _masked_models_are_local(self) -> Self:
        if self.by == "mask" and self.endpoint is not None:
            raise Rule("an endpoint is asked in chat: set   by: chat", "endpoint")
        return self


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """Rows with their prompts worded differently."""
    if options.by == "mask":
        return _filled(rows, options, bench)

    def tell(texts: Sequence[str], copy: int) -> Sequence[str]:
        return bench.answers.ask(
            options.speaker(),
            [f"{ORDER}\n\n{text}" for text in texts],
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=bench.seed + copy,
        )

    return retold(rows, bench, tell, copies=options.copies, protect=options.protect, answer_words=options.answer_words)


def _filled(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    guard, waiting, done = Guard(options.protect), iter(rows), 0
    speaker = Speaker(options.model, "fill")
    while bunch := list(islice(waiting, TOGETHER)):
        plans = [_plan(seeded, options, guard) for seeded in bunch for _ in range(options.copies)]
        questions = [_masked(text, span) for _, places in plans for text, span in places]
        answers = bench.answers.ask(speaker, questions, max_new_tokens=1)
        known = dict(zip(questions, answers, strict=True))
        for seeded, places in plans:
            made = with_prompts(seeded.row, lambda text: _with_words(text, seeded, places, known, options))  # noqa: B023
            if made is not seeded.row:
                yield seeded, made
        done += len(questions)
        bench.done(done)


Plan = tuple[Seeded, list[tuple[str, Span]]]
"""A row, and the places of its texts where another word is wanted."""


def _plan(seeded: Seeded, options: Options, guard: Guard) -> Plan:
    kept = frozenset() if options.answer_words else words_of(learnt(seeded.row))
    places = []
    for text in dict.fromkeys(prompts(seeded.row)):
        free = guard.free(text, kept)
        if MASK not in text and free:
            places += [(text, span) for span in chosen(free, options.rate, seeded.random)]
    return seeded, places


def _masked(text: str, span: Span) -> str:
    """The text, and behind it the same with a hole."""
    return f"{text} {text[: span[0]]}{MASK}{text[span[1] :]}"


def _with_words(
    text: str, seeded: Seeded, places: Sequence[tuple[str, Span]], known: dict[str, str], options: Options
) -> str:
    changes = {}
    for own, span in places:
        if own == text:
            old = text[span[0] : span[1]]
            words = known[_masked(text, span)].split("\n")
            other = [word for word in words if word and word.casefold() != old.casefold()][: options.choices]
            if other:
                changes[span] = like(old, seeded.random.choice(other))
    return replaced(text, changes)
