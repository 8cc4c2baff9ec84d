"""Keeps a user's text from turning into control tokens.

Where text of a user contains the characters of a control token, the conversation is encoded by a second tokenizer that
differs in a single point: each control token is written as a private character there, and only the template may write
those. Everything else, down to how whitespace beside a control token is treated, stays the same, so the text is cut
exactly as if the vocabulary had never reserved these characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sartor.errors import Problem, TokenError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from sartor.tokens.vocabulary import Vocabulary

_FRAME = 0xF0000
"""First of the private characters that stand for control tokens written by the template."""
_MARK = 0x100000
"""First of the private characters that stand for the same characters written by a user, while the template renders."""
_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
MARKS = re.compile("[\U00100000-\U0010ffff]")


class Controls:
    """The control tokens of one vocabulary, or of one vocabulary and template.

    Args:
        vocabulary: whose tokens they are.
        tokens: texts of added tokens of the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, tokens: Sequence[str]) -> None:
        self.vocabulary, self.tokens = vocabulary, tuple(tokens)
        self.pattern = any_of(self.tokens)
        self._number = {text: index for index, text in enumerate(self.tokens)}

    def mark(self, text: str, pattern: re.Pattern[str]) -> str:
        """The text with what `pattern` finds, control tokens of ours, replaced by private characters.

        Raises:
            TokenError: T224, the text uses these private characters itself.
        """
        control = pattern.search(text)
        private = (_PRIVATE if control else MARKS).search(text)
        if private:
            held = "both a control token and private-use characters" if control else "a private-use character"
            raise TokenError(
                Problem(
                    "T224",
                    f"the text holds {held} (U+{ord(private[0]):X}), which Sartor needs to keep control tokens and text apart",
                    fix="take these characters out of this row",
                )
            )
        if not control:
            return text
        return pattern.sub(lambda found: chr(_MARK + self._number[found[0]]), text)

    def mark_all(self, value: Any, pattern: re.Pattern[str]) -> Any:
        """`mark` for every text inside a JSON value, keys included."""
        if isinstance(value, str):
            return self.mark(value, pattern)
        if isinstance(value, Mapping):
            return {self.mark_all(key, pattern): self.mark_all(entry, pattern) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark_all(entry, pattern) for entry in value]
        return value

    def unmark(self, text: str) -> str:
        """The text as it reads."""
        return MARKS.sub(lambda found: self.tokens[ord(found[0]) - _MARK], text)

    def encode(self, text: str) -> list[int]:
        """Ids of a user's text, in which nothing is a control token.

        Raises:
            TokenError: T223, T224.
        """
        if not self.pattern.search(text):
            return self.vocabulary.encode(text, special=True)
        return self.encode_marked(self.mark(text, self.pattern))[0]

    def encode_marked(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a marked text: marks become plain text, control tokens written out count as such.

        Returns:
            The ids, and for each the characters of `self.unmark(text)` that it covers.

        Raises:
            TokenError: T223, this vocabulary makes a control token of plain text.
        """
        framed = self.unmark(self.pattern.sub(lambda found: chr(_FRAME + self._number[found[0]]), text))
        tokenizer, back, forbidden = self._second
        encoding = tokenizer.encode(framed, add_special_tokens=False)
        if not forbidden.isdisjoint(encoding.ids):
            found = next(token for token in self.tokens if self.vocabulary.added[token] in encoding.ids)
            raise TokenError(
                Problem(
                    "T223",
                    f'this vocabulary makes the control token "{found}" of plain text: the text of a user could steer '
                    "the model",
                    fix="use a base model with another tokenizer, or take these characters out of the data",
                )
            )
        return [back.get(index, index) for index in encoding.ids], self._read_offsets(framed, encoding.offsets)

    def _read_offsets(self, framed: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
        place, places = 0, [0]
        for character in framed:
            number = ord(character) - _FRAME
            place += len(self.tokens[number]) if 0 <= number < len(self.tokens) else 1
            places.append(place)
        return [(places[start], places[end]) for start, end in offsets]

    @cached_property
    def _second(self) -> tuple[Tokenizer, dict[int, int], frozenset[int]]:
        """The tokenizer with private characters, its ids back to ours, and the ids it must not make of plain text."""
        from tokenizers import AddedToken

        flags = {token["content"]: token for token in self.vocabulary.added_tokens}
        kept = [token for token in self.vocabulary.added_tokens if token["content"] not in self._number]
        tokenizer = self.vocabulary.tokenizer_with(kept)
        tokenizer.add_tokens(
            [
                AddedToken(
                    chr(_FRAME + index),
                    lstrip=flags[text].get("lstrip", False),
                    rstrip=flags[text].get("rstrip", False),
                    normalized=flags[text].get("normalized", False),
                )
                for text, index in self._number.items()
            ]
        )
        ours = self.vocabulary.added
        renamed = {chr(_FRAME + index): text for text, index in self._number.items()}
        renamed |= {token["content"]: token["content"] for token in kept}
        table = tokenizer.get_vocab(with_added_tokens=True)
        back = {table[theirs]: ours[text] for theirs, text in renamed.items()}
        forbidden = {ours[text] for text in self.tokens} - set(back) - {self.vocabulary.unknown_id}
        return tokenizer, back, frozenset(index for index in forbidden if index is not None)


def any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """Finds any of these tokens in a text, the longest first."""
    longest = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")
