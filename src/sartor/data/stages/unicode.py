"""Mends encodings, and takes out characters that nobody sees: a text that was decoded by the wrong table is decoded anew.

    clean: [unicode]
    clean: [{unicode: NFKC}]

What was decoded by the wrong table is decoded anew (ftfy, which does so only where the result is beyond doubt), characters
are written in one form, and control, direction and zero-width characters go. Kept are those that a script needs: joiners in
Arabic, Persian, Indic and other joining scripts and in emoji, zero-width spaces in scripts without spaces, direction marks
in texts that are written from right to left, and tags in flags.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import ClassVar, Literal

from sartor.data.outcome import Cleaner, OnTexts, Short, with_texts

__all__ = ["Options", "cleaner"]

HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\U000e0100-\U000e01ef]+"
)
"""Runs of characters that may be hidden in a text; a line end, a tab and \x85 (a line end of old) are not."""
JOINS = re.compile(
    "[\u0600-\u109f\u1700-\u18af\u1980-\u1aaf\u1b00-\u1c4f\ua800-\ua8ff\ua980-\uaaff\uabc0-\uabff\U00011000-\U00011fff]"
)
"""Letters and signs of scripts that use the joiners U+200C and U+200D: Arabic, Syriac, N'Ko, and the scripts of India and its neighbours."""
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u3040-\u30ff\u3400-\u9fff]")
"""Scripts that mark the end of a word by U+200B, if at all."""
EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122-\u21ff\u2300-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff]"
)
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]")
JOINERS, SPACE, MARKS = "\u200c\u200d", "\u200b", "\u061c\u200e\u200f\u2066\u2067\u2068\u2069"
FLAG = "\U0001f3f4"
SETTLED = 4
"""Rounds after which a text that still changes is left."""


class Options(Short, OnTexts):
    """Which form, and whether to mend."""

    main: ClassVar[str] = "form"

    form: Literal["NFC", "NFKC"] = "NFC"
    """NFC: one code for a letter and its accent; NFKC: also plain letters for ligatures, wide and raised ones."""
    repair: bool = True
    """Decode anew what was decoded by the wrong table."""


def cleaner(options: Options) -> Cleaner:
    """Changes rows; drops none."""
    repaired = _repairer() if options.repair else _same

    def tidy(text: str) -> str:
        if text.isascii():
            return HIDDEN.sub("", text)
        for _ in range(SETTLED):
            before = text
            text = unicodedata.normalize(options.form, HIDDEN.sub(_meant, repaired(text)))
            if text == before:
                break
        return text

    return lambda row: with_texts(row, tidy, options.on)


def _same(text: str) -> str:
    return text


def _repairer() -> Callable[[str], str]:
    """ftfy's repair of encodings alone. This is the only file that imports it."""
    from ftfy import TextFixerConfig, fix_text

    config = TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return lambda text: fix_text(text, config)


def _meant(found: re.Match[str]) -> str:
    """What of a run of hidden characters the text needs."""
    text = found.string
    before = text[found.start() - 1] if found.start() else ""
    after = text[found.end()] if found.end() < len(text) else ""
    run = found[0]
    if before == FLAG and run[0] >= "\U000e0020" and run[-1] == "\U000e007f":
        return run
    if UNSPACED.match(before) and run[0] >= "\U000e0100" and len(run) == 1:
        return run
    kept = "".join(character for character in run if _needed(character, before, after, text))
    return kept if len(set(kept)) == len(kept) else "".join(dict.fromkeys(kept))


def _needed(character: str, before: str, after: str, text: str) -> bool:
    if character in JOINERS:
        joined = EMOJI.match(before) and EMOJI.match(after) and character == "\u200d"
        return bool(JOINS.match(before) or joined)
    if character == SPACE:
        return bool(UNSPACED.match(before) and UNSPACED.match(after))
    if character == "\u180e":
        return "\u1800" <= before <= "\u18af"
    return character in MARKS and RIGHT_TO_LEFT.search(text) is not None
