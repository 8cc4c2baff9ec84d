"""Numbers and categories of one request: how long, in which language, how new its words, whether the answer refuses, repeats, is JSON ...

What "usual" is for words, labels, JSON and embeddings is fitted to one half of the reference; the other half is what the stream is
compared with, since the rows that a vocabulary was made of hold no new words.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sartor.data.features import words
from sartor.data.language import UNKNOWN, clear
from sartor.metrics._json import INVALID, fields, parse
from sartor.metrics._phrases import refusal
from sartor.metrics._words import ngrams
from sartor.monitor.drift import Level, Side
from sartor.monitor.seen import Seen

MOST_LABELS = 50
"""Different values up to which a field, or a whole answer, is a category."""
MOST_FIELDS = 6
RUN = 4
"""Words in a run, of which the share that was there before is counted, as in `metrics/repetition.py`."""
STRUCTURED = 0.9
"""Share of answers that are JSON from which JSON is what is wanted."""

Value = float | str


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that is watched."""

    name: str
    side: Side
    what: str
    """In words, for alarms."""
    grid: str = "share"
    """length: an eighth of a doubling; share: a hundredth."""
    next: str = ""
    """What to do when it moves."""

    def level(self, value: Value) -> Level:
        """The value on its grid."""
        if isinstance(value, str):
            return value
        if self.grid == "length":
            return round(8 * math.log2(1 + max(0.0, value)))
        return round(100 * value)


NEW_TASK = "look at the rows: a new kind of request wants rows of its own in training, or belongs to another model"
OUTPUT = "ask the model the same prompts as before the change; if it answers otherwise, see what was deployed then"
MACHINE = "see the machine's load and the server's queue at that time"

ALWAYS = (
    Feature("prompt_characters", "both", "characters of the prompt", "length", NEW_TASK),
    Feature("prompt_words", "both", "words of the prompt", "length", NEW_TASK),
    Feature("prompt_new_words", "more", "share of words that the reference does not know", next=NEW_TASK),
    Feature("prompt_language", "category", "language of the prompt", next="train on rows of that language, or turn such requests away"),
    Feature("answer_characters", "both", "characters of the answer", "length", OUTPUT),
    Feature("answer_words", "both", "words of the answer", "length", OUTPUT),
    Feature("answer_refuses", "more", "answers that refuse", next=OUTPUT),
    Feature("answer_repeats", "more", "share of an answer that says again what it said", next=OUTPUT),
    Feature("cut_off", "more", "answers that met their limit of tokens", next="allow longer answers, or find out why they run on"),
    Feature("failed", "more", "requests that failed", next=MACHINE),
    Feature("seconds", "more", "milliseconds to the answer", "length", MACHINE),
    Feature("score", "less", "what people say of the answers", next="read the answers that were turned down; corrections can become training rows"),
    Feature("label", "category", "label", next=OUTPUT),
    Feature("perplexity", "more", "perplexity of the answer", "length", OUTPUT),
)  # fmt: skip
LANGUAGE = Feature("answer_language", "category", "language of the answer", next=OUTPUT)
VALID = Feature("answer_json", "less", "answers that are JSON", next=OUTPUT)
DISTANCE = Feature("prompt_distance", "more", "cosine distance to the middle of the reference", next=NEW_TASK)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is watched, and what is usual."""

    known: frozenset[int]
    """Hashes of the words of the reference's prompts."""
    structured: bool
    """Whether answers are JSON."""
    paths: tuple[str, ...]
    """Fields of JSON answers with few values; "" for whole answers that are labels."""
    centre: tuple[float, ...]
    """Mean of the reference's embeddings, where there are any."""
    features: tuple[Feature, ...] = field(default=())

    @classmethod
    def fit(cls, records: Sequence[Seen]) -> Plan:
        """From one half of the reference."""
        known = frozenset(hashed(word) for seen in records for word in words(seen.prompt or ""))
        answers = [seen.answer for seen in records if seen.answer]
        values = [parse(answer) for answer in answers]
        structured = bool(answers) and sum(map(_structure, values)) >= STRUCTURED * len(answers)
        paths = _fields(values) if structured else _labels(answers)
        vectors = [seen.embedding for seen in records if seen.embedding]
        vectors = [vector for vector in vectors if len(vector) == len(vectors[0])]
        centre = tuple(np.mean([_unit(vector) for vector in vectors], 0).tolist()) if vectors else ()
        return cls(known, structured, paths, centre, _features(structured, paths, bool(centre)))

    def values(self, records: Sequence[Seen]) -> list[dict[str, Value]]:
        """Feature -> value of each record; only what is known of it."""
        prompts = clear([seen.prompt or "" for seen in records])
        spoken = any(feature is LANGUAGE for feature in self.features)
        answers = clear([seen.answer or "" for seen in records]) if spoken else [None] * len(records)
        return [self._of(*each) for each in zip(records, prompts, answers, strict=True)]

    def json(self) -> dict[str, Any]:
        """All of it; words as hashes alone."""
        return {
            "known": sorted(self.known),
            "structured": self.structured,
            "paths": list(self.paths),
            "centre": list(self.centre),
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Plan:
        """As `json` gave it."""
        paths, centre = tuple(body["paths"]), tuple(body["centre"])
        features = _features(body["structured"], paths, bool(centre))
        return cls(frozenset(body["known"]), body["structured"], paths, centre, features)

    def _of(self, seen: Seen, prompt_language: str | None, answer_language: str | None) -> dict[str, Value]:
        found: dict[str, Value] = {}
        if seen.prompt is not None:
            asked = words(seen.prompt)
            found["prompt_characters"] = float(len(seen.prompt))
            found["prompt_words"] = float(len(asked))
            found["prompt_new_words"] = sum(hashed(word) not in self.known for word in asked) / max(1, len(asked))
            found["prompt_language"] = prompt_language or UNKNOWN
            if self.centre and seen.embedding is not None and len(seen.embedding) == len(self.centre):
                found["prompt_distance"] = 1 - float(_unit(seen.embedding) @ _unit(self.centre))
        if seen.answer is not None:
            found |= self._of_answer(seen.answer)
            if not self.paths and not self.structured:
                found["answer_language"] = answer_language or UNKNOWN
        numbers: dict[str, float | None] = {
            "cut_off": None if seen.cut is None else float(seen.cut),
            "failed": None if seen.failed is None else float(seen.failed),
            "seconds": None if seen.seconds is None or seen.failed else 1000 * seen.seconds,
            "score": seen.score,
            "perplexity": seen.perplexity,
        }
        found |= {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
        return found if seen.label is None else found | {"label": seen.label}

    def _of_answer(self, answer: str) -> dict[str, Value]:
        runs = ngrams(answer, RUN)
        found: dict[str, Value] = {
            "answer_characters": float(len(answer)),
            "answer_words": float(len(words(answer))),
            "answer_refuses": float(refusal(answer) is not None),
            "answer_repeats": 1 - len(set(runs)) / len(runs) if runs else 0.0,
        }
        if self.structured:
            value = parse(answer)
            found["answer_json"] = float(_structure(value))
            told = dict(fields(value)) if _structure(value) else {}
            found |= {f"answer.{path}": told[path] for path in self.paths if path in told}
        elif self.paths:
            found["answer."] = answer.strip()
        return found


def halves(records: Sequence[Seen]) -> tuple[list[Seen], list[Seen]]:
    """Two halves of the reference, by lot and not by content: a prompt that comes often may lie in both, as it does in the stream."""
    order = np.random.default_rng(0).permutation(len(records))
    middle = len(records) // 2
    return [records[at] for at in order[:middle]], [records[at] for at in order[middle:]]


def hashed(text: str) -> int:
    """52 bits of a text, which JSON holds exactly."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) >> 12


def _features(structured: bool, paths: Sequence[str], embedded: bool) -> tuple[Feature, ...]:
    told = tuple(
        Feature(f"answer.{path}", "category", f"values of {path}" if path else "label answered", next=OUTPUT)
        for path in paths
    )
    spoken = (VALID,) if structured else () if paths else (LANGUAGE,)
    return (*ALWAYS, *spoken, *told, *((DISTANCE,) if embedded else ()))


def _fields(values: Iterable[Any]) -> tuple[str, ...]:
    counts: dict[str, Counter[str]] = {}
    for value in values:
        if _structure(value):
            for path, leaf in fields(value):
                counts.setdefault(path, Counter())[leaf] += 1
    few = [path for path, leaves in counts.items() if 1 < len(leaves) <= min(MOST_LABELS, leaves.total() // 4)]
    return tuple(sorted(few, key=lambda path: (-counts[path].total(), path))[:MOST_FIELDS])


def _labels(answers: Sequence[str]) -> tuple[str, ...]:
    return ("",) if 1 < len({answer.strip() for answer in answers}) <= min(MOST_LABELS, len(answers) // 4) else ()


def _structure(value: Any) -> bool:
    return value is not INVALID and isinstance(value, dict | list)


def _unit(vector: Sequence[float]) -> np.ndarray:
    array = np.asarray(vector, float)
    unit: np.ndarray = array / max(float(np.linalg.norm(array)), 1e-12)
    return unit
