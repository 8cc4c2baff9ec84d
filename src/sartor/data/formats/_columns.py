"""Guesses which of a file's columns are meant, for the `map` that a message suggests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sartor.data.formats._fields import nearest

_CONVERSATIONS = "messages conversations conversation dialog dialogue chat turns"
_PROMPTS = """
    prompt question query instruction input user request utterance text sentence review ticket message comment title source
    document article body content
"""
_ANSWERS = """
    completion answer response reply output assistant target json summary translation solution best result expected
"""
_SCORES = "score similarity relatedness rating"
_LABELS = "label labels intent class category sentiment tag rating stars score type"


def suggest(sample: Mapping[str, Any]) -> dict[str, str]:
    """A likely `map` (our field -> the file's column) for a record of no known format; empty where nothing is likely."""
    columns = list(sample)
    conversation = _find(_CONVERSATIONS, columns, sample)
    if conversation and isinstance(sample[conversation], list):
        return {"messages": conversation}
    texts = [name for name in columns if isinstance(sample[name], str) and not name.lower().endswith("id")]
    score = _find(_SCORES, columns, sample)
    if score and score not in texts and len(texts) == 2:
        return {"sentence1": texts[0], "sentence2": texts[1], "score": score}
    asked, said, label = (_find(names, columns, sample) for names in (_PROMPTS, _ANSWERS, _LABELS))
    if asked and said and asked != said:
        return {"prompt": asked, "completion": said}
    if asked and label and asked != label:
        return {"text": asked, "label": label}
    if len(texts) >= 2:
        return {
            "prompt": asked or texts[0],
            "completion": next(name for name in reversed(texts) if name != (asked or texts[0])),
        }
    if len(texts) == 1:
        return {"text": texts[0]}
    return {}


def _find(words: str, columns: Sequence[str], sample: Mapping[str, Any]) -> str | None:
    names = words.split()
    lowered = {column.lower(): column for column in reversed(columns) if sample[column] is not None}
    exact = next((lowered[name] for name in names if name in lowered), None)
    return exact or next((column for low, column in lowered.items() if nearest(low, names)), None)
