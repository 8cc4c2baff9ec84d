"""Parts of a text that must come out of an augmentation as they went in, and the words between them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache

from sartor.data.literal import CODE, is_json
from sartor.data.wording import normal

Span = tuple[int, int]
"""Begin and end of a piece of a text."""

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
"""A word of letters, with the apostrophes inside it."""
FIXED = (
    r"https?://\S+|www\.\S+",
    r"[\w.+-]+@[\w-]+\.[\w.-]+",
    r"\{\{.*?\}\}|\{[^{}\n]*\}|\$\{?\w+\}?|%\(?\w*\)?[sdif]\b|%%\w+%%",
    r"<[^<>\n]{1,200}>|\[[A-Z_][\w ./-]*\]",
    r"[“„«][^“”„«»\n]*[”“»]|\"[^\"\n]*\"|(?<!\w)['‘][^'‘’\n]*['’](?!\w)",
    r"[#@]\w+",
    r"\S*\d\S*",
    r"\w+(?:[_/\\]\w+)+",
)
"""Links, addresses, placeholders, tags, what is quoted, handles, whatever has a digit, paths and names with underscores."""
SENTENCE_END = re.compile(r"(?:^|[.!?:;…\n]|[-*•]\s|[.!?]['\"”»)])\s*$")
"""What stands before the first word of a sentence."""
NEGATIONS = frozenset(
    [
        "not",
        "no",
        "never",
        "none",
        "nobody",
        "nothing",
        "neither",
        "nor",
        "nowhere",
        "without",
        "cannot",
        "hardly",
        "barely",
        "scarcely",
        "except",
        "only",
        "nicht",
        "kein",
        "keine",
        "keinen",
        "keinem",
        "keiner",
        "nie",
        "niemals",
        "ne",
        "pas",
        "jamais",
        "rien",
        "sans",
        "non",
        "nada",
        "nunca",
    ]
)
"""Words that turn a statement around; taking one out or moving it would make a label wrong."""


class Guard:
    """Finds what may be changed. Raises `re.error` for a pattern that is none."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._fixed = _compiled((*FIXED, *patterns))

    def spans(self, text: str) -> list[Span]:
        """What is protected, ascending and without overlap."""
        if is_json(text):
            return [(0, len(text))]
        found = [match.span() for match in (*CODE.finditer(text), *self._fixed.finditer(text)) if match[0]]
        return _united([*found, *_entities(text)])

    def free(self, text: str, kept: Collection[str] = ()) -> list[Span]:
        """The words outside of what is protected, less those in `kept` (in lower case) and negations."""
        return [
            (begin, end)
            for begin, end in self.between(text)
            if (word := text[begin:end].casefold()) not in kept
            and word not in NEGATIONS
            and not word.endswith(("n't", "n’t"))
        ]

    def between(self, text: str) -> Iterator[Span]:
        """All words outside of what is protected."""
        spans = iter(self.spans(text))
        begin, end = next(spans, (len(text), len(text)))
        for match in WORD.finditer(text):
            while end <= match.start() and begin < len(text):
                begin, end = next(spans, (len(text), len(text)))
            if match.end() <= begin:
                yield match.span()

    def pieces(self, text: str) -> list[str]:
        """What is protected, as text."""
        return [text[begin:end] for begin, end in self.spans(text)]


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def _entities(text: str) -> Iterator[Span]:
    """Words with a capital that no sentence begins with: names of people, places and things."""
    for match in WORD.finditer(text):
        word = match[0]
        if not word[0].isupper() or word == "I" or word.startswith(("I'", "I’")):
            continue
        several = len(word) > 1 and not word[1:].islower() and word[1:2] not in "'’"
        if several or not SENTENCE_END.search(text[max(0, match.start() - 8) : match.start()]):
            yield match.span()


def _united(spans: Iterable[Span]) -> list[Span]:
    result: list[Span] = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return result


def replaced(text: str, changes: Mapping[Span, str]) -> str:
    """The text with other words in the place of some."""
    pieces, at = [], 0
    for begin, end in sorted(changes):
        pieces += [text[at:begin], changes[begin, end]]
        at = end
    return "".join([*pieces, text[at:]])


def like(model: str, word: str) -> str:
    """`word` in the case of `model`: small, Capitalised or ALL CAPITALS."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """Every word of the texts, in lower case."""
    return frozenset(word for text in texts for word in WORD.findall(normal(text)))
