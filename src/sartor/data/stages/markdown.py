"""Takes Markdown out of texts; what it marks stays: headings, emphasis, the text of links, code.

    clean: [markdown]
    clean: [{markdown: {links: true}}]

Signs go only where they are markup: `2 * 3 * 4`, `snake_case_name` and `#1` stay. List marks and numbers stay, because they
read well as plain text; rows of a table become lines with tabs. Code loses its backticks and keeps its every character.
Texts that are JSON are left alone. A sign that means something of its own, such as `####` before the result in GSM8K, cannot be
told from a heading and goes as well.
"""

from __future__ import annotations

import re

from sartor.data.literal import around_code, is_json
from sartor.data.outcome import Cleaner, OnTexts, with_texts

__all__ = ["Options", "cleaner"]

SIGNS = re.compile(r"[#*_~`\[>|\\]|^[ \t]*(?:-[ \t]*){3,}$|^[=-]{2,}[ \t]*$", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$", re.MULTILINE)
UNDERLINED = re.compile(r"^(?P<title>[^\n]*\w[^\n]*)\n(?:={3,}|-{3,})[ \t]*$", re.MULTILINE)
RULE = re.compile(r"^ {0,3}(?:(?:\*[ \t]*){3,}|(?:_[ \t]*){3,}|(?:-[ \t]*){3,})$\n?", re.MULTILINE)
QUOTE = re.compile(r"^ {0,3}(?:>[ \t]?)+", re.MULTILINE)
IMAGE = re.compile(r"!\[(?P<text>[^\]\n]*)\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?(?:\s+\"[^\"\n]*\")?\)")
LINK = re.compile(
    r"(?<!\!)\[(?P<text>[^\[\]\n]+)\]\((?P<to>[^()\s]*(?:\([^()\s]*\)[^()\s]*)?)(?:\s+(?:\"[^\"\n]*\"|'[^'\n]*'))?\)"
)
AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]+)>")
DELIMITER_ROW = re.compile(r"^[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)+\|?[ \t]*$\n?", re.MULTILINE)
TABLE_ROW = re.compile(r"^[ \t]*\|(?P<cells>.*\|.*)\|[ \t]*$", re.MULTILINE)
EMPHASIS = tuple(
    re.compile(rf"(?<![\w\\{mark[-1]}]){mark}(?=[^\s{mark[-1]}])(?P<text>[^\n]*?[^\s\\]){mark}(?![\w{mark[-1]}])")
    for mark in (r"\*\*\*", r"\*\*", r"\*", "___", "__", "_", "~~")
)
ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])")


class Options(OnTexts):
    """What stays of links."""

    links: bool = False
    """Write the address of a link behind its text: Help (https://example.org/help)."""


def cleaner(options: Options) -> Cleaner:
    """Changes rows; drops none."""
    link = r"\g<text> (\g<to>)" if options.links else r"\g<text>"

    def strip(text: str) -> str:
        if not SIGNS.search(text) or is_json(text):
            return text
        return around_code(text, lambda words: _stripped(words, link), _inside)

    return lambda row: with_texts(row, strip, options.on)


def _stripped(text: str, link: str) -> str:
    text = DELIMITER_ROW.sub("", text)
    text = UNDERLINED.sub(r"\g<title>", text)
    text = RULE.sub("", text)
    text = QUOTE.sub("", text)
    text = HEADING.sub(r"\1", text)
    text = TABLE_ROW.sub(_cells, text)
    text = AUTOLINK.sub(r"\1", LINK.sub(link, IMAGE.sub(r"\g<text>", text)))
    for emphasis in EMPHASIS:
        text = emphasis.sub(r"\g<text>", text)
    return ESCAPE.sub(r"\1", text)


def _inside(found: re.Match[str]) -> str:
    if found["fence"] is None:
        marks = len(found["mark"])
        return found[0][marks:-marks].strip(" ") or found[0]
    return "\n".join(found[0].split("\n")[1:-1])


def _cells(found: re.Match[str]) -> str:
    return "\t".join(cell.strip() for cell in found["cells"].split("|"))
