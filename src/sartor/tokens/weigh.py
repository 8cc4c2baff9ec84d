"""From rendered texts to ids and loss weights, with the proof that the supervised ids read as the supervised text.

Ids are those of the tokenizer on the whole text wherever the ids of a prompt come out the same alone. Where a token
would straddle the end of a prompt, that answer gets a rendering of its own in which prompt and answer are encoded apart,
as inference sees them; the other answers keep the text as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sartor.data.rows import Image
from sartor.tokens.batch import Rendered
from sartor.tokens.controls import Controls
from sartor.tokens.layout import Fault, difference

if TYPE_CHECKING:
    from tokenizers import Encoding

Ids = list[int]
Offsets = list[tuple[int, int]]
Encode = Callable[[str], tuple[Ids, Offsets]]

_ANCHORS = ("\n", ".", "a", "1")


@dataclass(frozen=True, slots=True)
class Notes:
    """What was noticed while one row was rendered; counts."""

    expanded: bool = False
    """The template rewrites earlier turns: one rendering per answer."""
    controls: tuple[str, ...] = ()
    """Control tokens found in the user's text, encoded as text."""
    stripped: int = 0
    """Messages whose outer whitespace the template removed."""
    altered: int = 0
    """Answers that read differently after the tokenizer's own normalisation."""
    unknown: int = 0
    """Supervised tokens that stand for characters the vocabulary does not have."""
    apart: int = 0
    """Answers encoded apart from their prompt because a token would have straddled the two."""


@dataclass(frozen=True, slots=True)
class Span:
    """A supervised answer in a rendered text."""

    begin: int
    end: int
    weight: float
    segment: str | None
    """The template's own text from its last control token to `begin`, or None."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A rendered text that waits for its ids. Offsets count the characters of `text`, marks as one character each."""

    text: str
    marked: bool
    """Whether the text holds marks of `Controls`."""
    spans: tuple[Span, ...]
    base: tuple[int, int, float] | None
    """Where, and with which weight, everything is learnt (loss_on: all)."""
    scaled: tuple[tuple[int, int, float], ...]
    """Texts of other messages with a weight of their own."""
    images: tuple[Image, ...] = ()
    """What its placeholders stand for."""


class Places(Protocol):
    """Which characters the tokens of a text cover."""

    def from_character(self, place: int) -> int:
        """The first token that begins at this character or behind it."""

    def end(self, token: int) -> int:
        """Where a token ends."""


class Listed:
    """`Places` from a list of (begin, end)."""

    def __init__(self, offsets: Offsets) -> None:
        self._offsets = offsets

    def from_character(self, place: int) -> int:
        """The first token that begins at this character or behind it."""
        return bisect_left(self._offsets, (place, -1))

    def end(self, token: int) -> int:
        """Where a token ends."""
        return self._offsets[token][1]


class Encoded:
    """`Places` of an encoding, whose list of offsets is made only where a token begins elsewhere than expected."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    def from_character(self, place: int) -> int:
        """The first token that begins at this character or behind it."""
        found: int | None = self._encoding.char_to_token(place)
        if found is not None and self._span(found)[0] == place and (not found or self._span(found - 1)[0] < place):
            return found
        return bisect_left(self._encoding.offsets, (place, -1))

    def end(self, token: int) -> int:
        """Where a token ends."""
        return self._span(token)[1]

    def _span(self, token: int) -> tuple[int, int]:
        span: tuple[int, int] | None = self._encoding.token_to_chars(token)
        assert span is not None, "every token of one text covers characters of it"
        return span


class Weigher:
    """Encodes, decodes and weighs the texts of one template on one vocabulary."""

    def __init__(self, controls: Controls) -> None:
        self.controls, self.vocabulary = controls, controls.vocabulary
        self._segments: dict[str, Ids] = {}

    def weigh(self, draft: Draft, encoding: Encoding, row: int) -> tuple[list[Rendered], Notes]:
        """Ids and weights of one text: one rendering, and one more for each answer that must be encoded apart; the
        one that ends with the last answer comes last.

        Raises:
            Fault: T201, T215.
        """
        places: Places
        if draft.marked:
            ids, offsets = self.controls.encode_marked(draft.text)
            places = Listed(offsets)
        else:
            ids, places = encoding.ids, Encoded(encoding)
        encode = self.encoder(draft.marked)
        joint: list[Span] = []
        apart: list[Span] = []
        for span in draft.spans:
            kept = draft.base is not None or self._parts(draft, span, ids, places, encode)
            (joint if kept else apart).append(span)
        notes = Notes(apart=len(apart))
        ordered: list[tuple[int, Rendered]] = []
        if joint or not apart:
            one, notes = self._one(draft, joint, ids, places, row, notes)
            ordered.append((joint[-1].end if joint else 0, one))
        for span in apart:
            ids, offsets = encode(draft.text[: span.begin])
            shift = self._read(draft, span.begin)
            more, further = self.go_on(draft.text[span.begin : span.end], encode)
            offsets = [*offsets, *((first + shift, last + shift) for first, last in further)]
            one, notes = self._one(draft, [span], ids + more, Listed(offsets), row, notes)
            ordered.append((span.end, one))
        return [one for _, one in sorted(ordered, key=itemgetter(0))], notes

    def encoder(self, marked: bool) -> Encode:
        """What encodes a text with or without marks."""
        return self.controls.encode_marked if marked else self.encode

    def encode(self, text: str) -> tuple[Ids, Offsets]:
        """Ids and character offsets of a text without marks."""
        (encoding,) = self.vocabulary.encodings([text])
        return encoding.ids, encoding.offsets

    def segment(self, text: str) -> Ids:
        """Ids of a short text of the template, remembered."""
        if text not in self._segments:
            self._segments[text] = self.encode(text)[0]
        return self._segments[text]

    def go_on(self, text: str, encode: Encode) -> tuple[Ids, Offsets]:
        """Ids of a text that goes on, without the space that some tokenizers put before a text that begins."""
        if not text or not self._prepends or self.controls.pattern.match(text):
            return encode(text)
        for anchor in _ANCHORS:
            before = self.segment(anchor)
            ids, offsets = encode(anchor + text)
            cut = len(before)
            if ids[:cut] == before and offsets[cut - 1][1] <= len(anchor):
                return ids[cut:], [(start - len(anchor), end - len(anchor)) for start, end in offsets[cut:]]
        return encode(text)

    def decode(self, rows: Sequence[Ids]) -> list[str]:
        """Texts of ids that go on: nothing is stripped from their beginning."""
        before, length = self._anchor
        return [text[length:] for text in self.vocabulary.decode_many([before + list(ids) for ids in rows])]

    @cached_property
    def _prepends(self) -> bool:
        """Whether the tokenizer treats the beginning of a text in another way than its middle."""
        return self.segment("\na") != self.segment("\n") + self.segment("a")

    @cached_property
    def _anchor(self) -> tuple[Ids, int]:
        ids = self.segment("a")
        return ids, len(self.vocabulary.decode(ids))

    def _parts(self, draft: Draft, span: Span, ids: Ids, places: Places, encode: Encode) -> bool:
        """Whether the ids of the prompt alone are exactly those before the answer."""
        begin = self._read(draft, span.begin)
        first = places.from_character(begin)
        if first and places.end(first - 1) > begin:
            return False
        if span.segment is None:
            return ids[:first] == encode(draft.text[: span.begin])[0]
        alone = self.segment(span.segment)
        return ids[max(0, first - len(alone)) : first] == alone

    def _one(
        self, draft: Draft, spans: Sequence[Span], ids: Ids, places: Places, row: int, notes: Notes
    ) -> tuple[Rendered, Notes]:
        def tokens(begin: int, end: int) -> slice:
            first, last = (places.from_character(self._read(draft, place)) for place in (begin, end))
            return slice(first, last)

        weight = np.zeros(len(ids), dtype=np.float32)
        for begin, end, value in (draft.base, *draft.scaled) if draft.base else draft.scaled:
            weight[tokens(begin, end)] = value
        pieces = []
        for span in spans:
            place = tokens(span.begin, span.end)
            weight[place] = span.weight
            pieces.append(ids[place])
        rendered = Rendered(np.asarray(ids, dtype=np.int32), weight, row)
        if not rendered.supervised:
            raise Fault("T201", "no token of this row is trained after template and mask")
        altered = 0 if draft.base else self._prove(draft, spans, pieces)
        unknown = self.vocabulary.unknown_id
        lost = 0 if unknown is None else sum(piece.count(unknown) for piece in pieces)
        more = Notes(altered=notes.altered + altered, unknown=notes.unknown + lost, apart=notes.apart)
        return rendered, more

    def _read(self, draft: Draft, place: int) -> int:
        """An offset in the text as it reads, where marks are written out."""
        return len(self.controls.unmark(draft.text[:place])) if draft.marked else place

    def _prove(self, draft: Draft, spans: Sequence[Span], pieces: Sequence[Ids]) -> int:
        """Supervised ids read exactly as the supervised text; returns how many differ by the tokenizer's own doing."""
        altered = 0
        encode = self.encoder(draft.marked)
        for ids, span, read in zip(pieces, spans, self.decode(pieces), strict=True):
            text = draft.text[span.begin : span.end]
            wanted = self.controls.unmark(text) if draft.marked else text
            if read == wanted:
                continue
            if ids not in self._own(text, span.segment, encode):
                raise Fault("T215", "the trained tokens do not read as the answer:", excerpt=difference(wanted, read))
            altered += 1
        return altered

    def _own(self, text: str, segment: str | None, encode: Encode) -> list[Ids]:
        """What the tokenizer makes of a text that goes on, and of one that follows its prompt's last words."""
        own = [self.go_on(text, encode)[0]]
        if segment is not None:
            own.append(encode(segment + text)[0][len(self.segment(segment)) :])
        return own
