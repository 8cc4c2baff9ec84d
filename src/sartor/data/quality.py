"""Faults that can be seen in a single text: repetition, signs instead of words, boilerplate, broken encodings, a missing end.

The thresholds follow the filters of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1), made milder for
the short texts of fine-tuning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from sartor.data.features import words

REPEATED = 0.3
"""Share of runs of `RUN` words that occurred before in the same text, from which it repeats itself."""
RUN = 5
LONG_ENOUGH = 50
"""Words that a text needs before repetition means something."""
IN_A_ROW = 8
"""The same word this often one after the other repeats itself in any text."""
SIGNS = 0.5
"""Share of signs among what is not blank, from which a text is no words."""
CHARACTERS = 40
"""Characters that a text needs before its signs are counted."""
SENTENCE = 12
"""Words of an answer from which it is expected to end like a sentence."""
READ = 20_000
"""Characters of a text that are looked at."""

BOILERPLATE = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:ai )?(?:large )?language model)\b|\bi(?:'|’)?m (?:just )?an ai\b"
    r"|\bmy (?:knowledge|training) (?:cut-?off|data)\b|\bi (?:cannot|can(?:'|’)t) fulfil+ (?:this|that|your) request\b"
    r"|\bi (?:don(?:'|’)t|do not) have (?:personal (?:opinions|feelings|experiences)|access to real-?time)\b",
    re.IGNORECASE,
)
MOJIBAKE = re.compile(r"â€[™œ“”˜¦\u009d\u0099\u009c]|Ã[\u0080-\u00bf€ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|Â[\u00a0-\u00bf]|ï»¿")
ENTITY = re.compile(r"&(?:amp|quot|apos|lt|gt|nbsp|#\d{2,5}|#x[0-9a-f]{2,4});", re.IGNORECASE)
MARKUP = re.compile(r"</?[a-z]|```|&\w+;[^<>]*=|href", re.IGNORECASE)
ESCAPED = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}")
BETWEEN = re.compile(r"[\u0080-\u009f\x1b]")
CODE = re.compile(r"```|^\s*(?:[{\[<|]|def |class |import |#include|SELECT )|[;{}]\s*$", re.MULTILINE)
TERMINAL = ".!?…。！？؟।\"'”’»)]}>*`:|"
LIST = re.compile(r"^\s*(?:[-*•+]|\d+[.)]|[a-z][.)])\s")


def faults(text: str) -> list[str]:
    """What is wrong with a text, by name: repetition, signs, encoding; in this order."""
    text = text[:READ]
    found = []
    if repeats(text):
        found.append("repetition")
    if mostly_signs(text):
        found.append("signs")
    if broken_encoding(text):
        found.append("encoding")
    return found


def repeats(text: str) -> bool:
    """Whether the text says the same again and again."""
    return repeated(words(text))


def repeated(said: Sequence[str]) -> bool:
    """The same of the words of a text."""
    # Either way at least this many words stand where they stood before.
    if len(said) - len(set(said)) < IN_A_ROW - 1:
        return False
    if len(said) >= LONG_ENOUGH:
        runs = [tuple(said[at : at + RUN]) for at in range(len(said) - RUN + 1)]
        if len(set(runs)) <= (1 - REPEATED) * len(runs):
            return True
    same = 1
    for before, word in pairwise(said):
        same = same + 1 if word == before and word.isalpha() else 1
        if same >= IN_A_ROW:
            return True
    return False


def mostly_signs(text: str) -> bool:
    """Whether more signs than letters and digits stand in a text that is no code."""
    dense = "".join(text.split())
    if len(dense) < CHARACTERS or sum(map(str.isalnum, dense)) >= SIGNS * len(dense):
        return False
    spoken = sum(unicodedata.category(character)[0] in "LMN" for character in dense)
    return spoken < SIGNS * len(dense) and not CODE.search(text)


def broken_encoding(text: str) -> bool:
    """Whether the text holds rests of a wrong decoding: replacement characters, mojibake, entities, escapes."""
    if text.isascii() and not ("&" in text or "\\" in text or "\x1b" in text):
        return False
    if "\ufffd" in text or BETWEEN.search(text) or MOJIBAKE.search(text):
        return True
    if ("&" in text or "\\" in text) and not MARKUP.search(ENTITY.sub("", text)) and not CODE.search(text):
        return bool(ENTITY.search(text) or ESCAPED.search(text))
    return False


def boilerplate(text: str) -> bool:
    """Whether an answer speaks about itself as an assistant's product."""
    return BOILERPLATE.search(text[:READ]) is not None


def ends(answer: str) -> bool | None:
    """Whether a prose answer ends like a sentence; None for what need not: short answers, lists, code, tables."""
    answer = answer.rstrip()
    last = answer.rpartition("\n")[2]
    if len(answer.split()) < SENTENCE or LIST.match(last) or len(last.split()) < 4 or CODE.search(answer):
        return None
    return answer[-1] in TERMINAL or not (answer[-1].isalnum() or answer[-1] in ",;-–—(&/")
