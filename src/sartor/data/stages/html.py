"""Takes HTML out of texts: tags go, entities become their characters, paragraphs, list items and cells stay apart.

    clean: [html]
    clean: [{html: {links: true}}]

What stands in scripts, styles and comments goes with them. Only elements of HTML count, written as HTML is: `a < b`,
`List<int>` and `<think>` stay. Code in backticks and texts that are JSON are left alone. Entities are decoded once, so
`&amp;lt;` becomes `&lt;`.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from sartor.data.literal import around_code, is_json, whole
from sartor.data.outcome import Cleaner, OnTexts, with_texts

__all__ = ["Options", "cleaner"]


def _named(tags: str) -> frozenset[str]:
    return frozenset(tags.split())


PARAGRAPHS = _named(
    "article aside blockquote body center dl figure footer form h1 h2 h3 h4 h5 h6 header html main nav ol p pre section "
    "table ul"
)
LINES = _named("address br caption dd details div dt fieldset figcaption hr legend li option summary tr")
CELLS = _named("td th")
DROPPED = _named("head iframe noscript script style svg template title")
INLINE = _named(
    "a abbr acronym audio b base bdi bdo big button canvas cite code col colgroup data datalist del dfn dir em embed font "
    "frame frameset i img input ins kbd label link map mark meta meter object optgroup output param picture progress q rp "
    "rt ruby s samp select small source span strike strong sub sup tbody textarea tfoot thead time tt u var video wbr area"
)
_ATTRIBUTE = r"""\s+[A-Za-z_:@][\w:.@-]*(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+))?"""
MARKUP = re.compile(
    rf"<!--.*?-->|<!doctype[^>]*>|<(?P<name>/?(?:{'|'.join(sorted(PARAGRAPHS | LINES | CELLS | DROPPED | INLINE))}))"
    rf"(?:{_ATTRIBUTE})*\s*/?>",
    re.IGNORECASE | re.DOTALL,
)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
SOURCE = re.compile(r"<(?:html|body|p|div|table|ul|ol|section|article)\b[^<>]*>", re.IGNORECASE)
"""Where one of these stands, line ends are no more than blanks, as in a browser."""
PLAIN = re.compile(r"[<&]")
BLANKS, BESIDE, MANY = re.compile(r"\s+"), re.compile(r"[ \t]*\n[ \t]*"), re.compile(r"\n{3,}")


class Options(OnTexts):
    """What stays of links."""

    links: bool = False
    """Write the address of a link behind its text: Help (https://example.org/help)."""


def cleaner(options: Options) -> Cleaner:
    """Changes rows; drops none, but a text that was markup only leaves nothing to learn and its row goes."""

    def strip(text: str) -> str:
        if not MARKUP.search(text) and not ENTITY.search(text):
            return text
        if is_json(text):
            return text
        return around_code(text, lambda words: _stripped(words, links=options.links), whole)

    return lambda row: with_texts(row, strip, options.on)


def _stripped(text: str, *, links: bool) -> str:
    marked = MARKUP.search(text)
    if not marked and not ENTITY.search(text):
        return text
    reader = _Reader(links=links, source=SOURCE.search(text) is not None)
    reader.feed(_escaped(text))
    reader.close()
    return reader.text() if marked else reader.plain()


def _escaped(text: str) -> str:
    """The text with what only looks like markup or an entity written so that a parser takes it for text."""
    pieces, end = [], 0
    for found in MARKUP.finditer(text):
        pieces += [_literal(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join((*pieces, _literal(text[end:])))


def _literal(text: str) -> str:
    def written(found: re.Match[str]) -> str:
        if found[0] == "<":
            return "&lt;"
        return "&" if ENTITY.match(text, found.start()) else "&amp;"

    return PLAIN.sub(written, text)


class _Reader(HTMLParser):
    """Gathers the words of a page and where lines end."""

    def __init__(self, *, links: bool, source: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._links, self._source = links, source
        self._pieces: list[str] = []
        self._dropped: list[str] = []
        self._address: list[str | None] = []
        self._kept = 0
        """How many `pre` are open."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        if tag in DROPPED:
            self._dropped.append(tag)
        elif tag == "pre":
            self._kept += 1
        elif tag == "a":
            self._address.append(dict(attributes).get("href"))
        if tag == "img" and (described := dict(attributes).get("alt")):
            self.handle_data(described)
        self._break(tag)
        if tag == "li":
            self.handle_data("- ")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """An element that is empty."""
        if tag not in DROPPED:
            self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        if tag in DROPPED:
            if tag in self._dropped:
                del self._dropped[self._dropped.index(tag) :]
            return
        if tag == "pre":
            self._kept = max(0, self._kept - 1)
        elif tag == "a" and self._address:
            address = self._address.pop()
            if self._links and address and not address.startswith(("#", "javascript:")):
                self.handle_data(f" ({address})")
        if tag != "br":
            self._break(tag)

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        if self._dropped:
            return
        if self._source and not self._kept:
            data = BLANKS.sub(" ", data)
        elif self._pieces and self._pieces[-1] == "\n":
            data = data.removeprefix("\n")
        self._pieces.append(data)

    def plain(self) -> str:
        """The text where there were entities only: nothing else is touched."""
        return "".join(self._pieces)

    def text(self) -> str:
        """The text with at most one blank line in a row, and no blanks around a line end that a tag made."""
        said = MANY.sub("\n\n", "".join(self._pieces))
        if self._source:
            said = BESIDE.sub("\n", said)
        return MANY.sub("\n\n", said).strip()

    def _break(self, tag: str) -> None:
        if self._dropped:
            return
        if tag in CELLS:
            if self._pieces and not self._pieces[-1].endswith(("\n", "\t")):
                self._pieces.append("\t")
        elif tag in PARAGRAPHS:
            self._pieces.append("\n\n")
        elif tag == "br" or (tag in LINES and not self._ends_line()):
            self._pieces.append("\n")

    def _ends_line(self) -> bool:
        last = next((piece for piece in reversed(self._pieces) if piece.strip(" ")), "\n")
        return last.rstrip(" ").endswith("\n")
