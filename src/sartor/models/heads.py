"""What stands on a model's last hidden states instead of words: classes, labels, a number, tags, a reward. Torch-free.

A head is transformers' own (`AutoModelForSequenceClassification`, `AutoModelForTokenClassification`), so a saved model loads there
and gives equal numbers. What transformers has no place for (the scale of a number, the temperature of probabilities,
thresholds) is in `sartor.json`, beside the names that config.json has as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from sartor.errors import ModelError, Problem

HeadKind = Literal["classes", "labels", "number", "tags", "reward"]
"""classes: one of several; labels: any number of several; number: one value; tags: one class for each token; reward: one
value of which only differences mean something."""
Place = Literal["sequence", "tokens"]
"""Whether a head gives one line of numbers for a row, or one for each token."""

_PROBLEMS: dict[HeadKind, str | None] = {
    "classes": "single_label_classification",
    "labels": "multi_label_classification",
    "number": "regression",
    "tags": None,
    "reward": "regression",
}
"""What transformers calls them."""
KEY = "head"
"""Where sartor.json has it."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a head tells, and how its raw outputs are to be read.

    Raises ValueError for names where there are none, or none where they are needed.
    """

    kind: HeadKind
    names: tuple[str, ...] = ()
    """Of the classes, labels or tags, in the order of the outputs; a number and a reward have none."""
    center: float = 0.0
    """number: its value is center + spread * output."""
    spread: float = 1.0
    """number: the deviation of the training values."""
    temperature: float = 1.0
    """classes, tags: probabilities are softmax(outputs / temperature); labels: sigmoid(outputs / temperature)."""
    thresholds: tuple[float, ...] = ()
    """labels: the probability from which each is given; empty: 0.5 for all."""

    def __post_init__(self) -> None:
        named = self.kind in ("classes", "labels", "tags")
        if named and len(self.names) < (1 if self.kind == "labels" else 2):
            raise ValueError(f"a head of {self.kind} needs the names of at least two of them, or one of labels")
        if not named and self.names:
            raise ValueError(f"a head of kind {self.kind} has no names")
        if len(set(self.names)) != len(self.names):
            raise ValueError("names of a head must differ")
        if self.thresholds and len(self.thresholds) != len(self.names):
            raise ValueError("one threshold for each label")
        if self.spread <= 0 or self.temperature <= 0:
            raise ValueError("spread and temperature must be above 0")

    @property
    def outputs(self) -> int:
        """k, numbers that the head gives."""
        return len(self.names) or 1

    @property
    def place(self) -> Place:
        """Whether it reads rows or tokens."""
        return "tokens" if self.kind == "tags" else "sequence"

    def fits(self, other: HeadSpec) -> bool:
        """Whether weights of the one mean the same in the other."""
        return (self.kind, self.names) == (other.kind, other.names)

    def config(self) -> dict[str, Any]:
        """The keys of config.json that say it to transformers."""
        names = self.names or (("REWARD",) if self.kind == "reward" else ("VALUE",))
        table = dict(enumerate(names))
        named = {"id2label": table, "label2id": {name: index for index, name in table.items()}}
        problem = _PROBLEMS[self.kind]
        return {**named, "problem_type": problem} if problem else named

    def json(self) -> dict[str, Any]:
        """For sartor.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> HeadSpec:
        """The inverse of `json`. Raises ValueError for what is none."""
        unknown = sorted(set(body) - {field.name for field in fields(cls)})
        if unknown or body.get("kind") not in get_args(HeadKind):
            raise ValueError(f"not a head: {', '.join(unknown) or body.get('kind')}")
        lists = {name: tuple(body.get(name) or ()) for name in ("names", "thresholds")}
        return cls(**{**body, **lists})

    @classmethod
    def of(cls, folder: Path, config: Mapping[str, Any]) -> HeadSpec | None:
        """The head that a model or adapter folder holds, by its sartor.json, or by what config.json says of a head of others.

        `config` is the contents of config.json (of an adapter, none). Raises ModelError M115 where sartor.json is damaged.
        """
        facts = folder / "sartor.json"
        if facts.is_file():
            body = json.loads(facts.read_text(encoding="utf-8")).get(KEY)
            if body is not None:
                try:
                    return cls.from_json(body)
                except (TypeError, ValueError) as fault:
                    what = f"its head cannot be read ({fault})"
                    raise ModelError(Problem("M115", what, file=str(facts), fix="copy the folder again")) from fault
        return _told(config)


def _told(config: Mapping[str, Any]) -> HeadSpec | None:
    """The head of a model that others have saved."""
    architecture = next(iter(config.get("architectures") or ()), "")
    table = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    names = tuple(str(name) for _, name in sorted(table.items(), key=lambda entry: int(entry[0])))
    if len(set(names)) != len(names):
        names = tuple(f"LABEL_{index}" for index in range(len(names)))
    if architecture.endswith("ForTokenClassification"):
        return HeadSpec("tags", names) if len(names) > 1 else None
    if not architecture.endswith("ForSequenceClassification"):
        return None
    if config.get("problem_type") == "multi_label_classification":
        return HeadSpec("labels", names)
    if config.get("problem_type") == "regression" or len(names) == 1:
        return HeadSpec("number") if len(names) == 1 else None
    return HeadSpec("classes", names)
