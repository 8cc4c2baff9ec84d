"""Two texts and the label of what holds between them; the label is what the model answers.

    {"premise": "A man plays a guitar.", "hypothesis": "Someone makes music.", "label": "entailment"}

Other names of the two are sentence1 and sentence2, text1 and text2, question1 and question2. An encoder reads them as two
texts, between its own control tokens; others read one turn of the user, with an empty line between. A number becomes its digits, true and false their names. The split keeps the share of each label. A
label of -1, with which some collections mark rows that nobody agreed on, is no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, prompt, value
from sartor.data.formats.labeled import label_of
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"premise": "A man plays a guitar.", "hypothesis": "Someone makes music.", "label": "entailment"},
    {"sentence1": "It rains.", "sentence2": "The sun shines.", "label": 2, "idx": 7},
    {"text1": "Where is my card?", "text2": "My card has not arrived.", "label": True},
    {"question1": "How old is the moon?", "question2": "What is the age of the moon?", "label": 1},
]
PAIRS = (("premise", "hypothesis"), ("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2"))
FIELDS: tuple[str, ...] = (*(name for pair in PAIRS for name in pair), "label")
UNDECIDED = (-1, "-1", "-")
"""What stands in the place of a label where there is none."""


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has two texts and a label."""
    return "label" in record and "text" not in record and _names(record) is not None


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example with `label` and `stratum`. Raises BadRow."""
    first, second = _names(record) or PAIRS[0]
    given = value(record, "label")
    if not isinstance(given, bool) and given in UNDECIDED:
        raise BadRow("D120", f"the label is {given}: nobody has decided it", "leave such rows out: data.on_bad: skip")
    label = label_of(given)
    texts = tuple(Message("user", prompt(record, name)) for name in (first, second))
    return Example(origin=origin, messages=(*texts, Message("assistant", label)), label=label, stratum=label)


def _names(record: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if all(name in record for name in pair)), None)
