"""What each kind of objective learns from, made up: rows that belong together, models, and what stands beside a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import tiny
import torch

from sartor.models.heads import HeadSpec
from sartor.models.still import Still
from sartor.objectives._answers import KL
from sartor.protocols import Traits
from sartor.tokens.batch import Batch, Rendered, collate, collate_shared
from sartor.tokens.pack import pack
from sartor.tokens.symbols import Symbols

Unit = list[Rendered]
POLICIES = {
    "causal": ("llama", "gpt2", "mistral"),
    "encoder": ("bert", "roberta", "distilbert"),
    "encoder_decoder": ("t5", "bart"),
    "vision": ("llava",),
}
NAMES = ("a", "b", "c")
END = 1
"""End of text, where encoder-decoders read whole rows."""
HEADS = {
    "classes": HeadSpec("classes", NAMES),
    "labels": HeadSpec("labels", NAMES),
    "number": HeadSpec("number"),
    "tags": HeadSpec("tags", NAMES),
    "reward": HeadSpec("reward"),
}


def examples(count: int) -> list[Unit]:
    """Rows with a masked prompt."""
    return [[row] for row in tiny.rows(count)]


def documents(count: int) -> list[Unit]:
    """Rows whose every token is learnt."""
    return [[replace(row, weight=np.ones(len(row), np.float32))] for row in tiny.rows(count)]


def inputs(count: int, labels: Callable[[np.random.Generator, int], Sequence[float]]) -> list[Unit]:
    """Rows of which something is known: weight on the last token alone, some rows counting half."""
    draw, units = np.random.default_rng(1), []
    for row in tiny.rows(count):
        weight = np.zeros(len(row), np.float32)
        weight[-1] = 0.5 if row.row % 4 == 1 else 1.0
        ids = np.append(row.ids[:-1], END).astype(np.int32)
        units.append([replace(row, ids=ids, weight=weight, labels=np.array(labels(draw, len(row)), np.float32))])
    return units


HEADED: dict[str, Callable[[np.random.Generator, int], Sequence[float]]] = {
    "classes": lambda draw, length: [draw.integers(0, 3)],
    "labels": lambda draw, length: draw.integers(0, 2, 3).tolist(),
    "number": lambda draw, length: [draw.normal()],
    "tags": lambda draw, length: [np.nan if place % 3 == 0 else draw.integers(0, 3) for place in range(length)],
}


def answers(count: int, scores: Callable[[np.random.Generator], Sequence[Sequence[float]]]) -> list[Unit]:
    """Several answers behind one prompt, some long enough to be shared; a row that counts half, a token that does."""
    draw, units = np.random.default_rng(2), []
    for number in range(count):
        prompt = draw.integers(3, tiny.VOCABULARY, int(draw.integers(2, 30)))
        unit = []
        for labels in scores(draw):
            said = draw.integers(3, tiny.VOCABULARY, int(draw.integers(1, 12)))
            weight = np.concatenate([np.zeros(len(prompt)), np.ones(len(said))]).astype(np.float32)
            if len(said) > 2 and number % 3 == 0:
                weight[-2] = 0.5
            if number % 4 == 1:
                weight *= 0.5
            ids = np.concatenate([prompt, said]).astype(np.int32)
            unit.append(Rendered(ids, weight, number, np.array(labels, np.float32)))
        units.append(unit)
    return units


def rankings(draw: np.random.Generator) -> list[list[float]]:
    """Two to five answers, some equally good, not all."""
    scores = draw.integers(-3, 0, int(draw.integers(2, 6)))
    scores[0] = 1
    return [[float(score)] for score in scores]


def margins(draw: np.random.Generator) -> list[list[float]]:
    """A pair, half of them with a margin."""
    margin = [float(draw.integers(0, 3))] if draw.random() < 0.5 else []
    return [[1.0, *margin], [0.0, *margin]]


COMPARED: dict[str, Callable[[np.random.Generator], Sequence[Sequence[float]]]] = {
    "preference": margins,
    "judged": lambda draw: [[float(draw.integers(0, 2))]],
    "ranking": rankings,
}
NEEDED = {"teacher": "sartor/nano"}
"""Values of options that have no default."""
ROWS: dict[str, Callable[[int], list[Unit]]] = {
    "text": documents,
    **dict.fromkeys(("example", "scored", "labelled", "prompt"), examples),
}
"""Kind of row -> rows of it, where text is learnt. A new kind of row needs an entry."""


def units_of(traits: Traits, kind: str, count: int) -> list[Unit]:
    """Rows of one kind as an objective reads them."""
    if traits.reads == "candidates":
        return answers(count, COMPARED[kind])
    if traits.reads == "input":
        return inputs(count, HEADED[traits.head])
    return ROWS[kind](count)


@dataclass(frozen=True)
class Case:
    """An objective with rows of one kind."""

    objective: ModuleType
    kind: str

    @property
    def traits(self) -> Traits:
        """What the objective is about."""
        traits: Traits = self.objective.TRAITS
        return traits

    def options(self, **given: Any) -> Any:
        """Its defaults but for what is given, and what has none."""
        named = {name for name, field in self.objective.Options.model_fields.items() if field.is_required()}
        return self.objective.Options(**{name: NEEDED[name] for name in named} | given)

    def models(self) -> list[str]:
        """Models that can learn it."""
        return [name for kind in sorted(self.traits.models) for name in POLICIES[kind]]

    def policy(self, name: str, seed: int = 0) -> Any:
        """A model of this name with what the objective needs on it, in evaluation mode, all of it moving."""
        head = self.traits.head
        policy = tiny.policy(name, seed=seed) if head == "words" else tiny.headed(name, HEADS[head], seed=seed)
        if self.traits.reads == "prompt":
            policy.add_value_head()
        policy.model.requires_grad_(True)
        policy.eval()
        return policy

    def units(self, count: int) -> list[Unit]:
        """Rows."""
        return units_of(self.traits, self.kind, count)

    def roles(self, name: str) -> dict[str, Any]:
        """The further models that the loss asks, and the control tokens it writes."""
        asked: dict[str, Any] = {role: Still(self.policy(name, seed=5)) for role in sorted(self.traits.roles)}
        if self.traits.symbols:
            marks = frozenset(range(20))
            asked["symbols"] = Symbols(3, tuple(range(4, 20)), end=1, controls=marks, size=tiny.VOCABULARY)
        return asked

    def batch(self, units: Sequence[Unit], *, share: bool = False) -> Batch:
        """Units in one batch with what its source puts beside them."""
        rows = [row for unit in units for row in unit]
        groups = [number for number, unit in enumerate(units) for _ in unit]
        batch = collate_shared(rows, groups) if share else collate(rows, groups)
        return replace(batch, columns=self.columns(batch), draw=11)

    def columns(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """What is known of each scored place, as a function of its row and its target alone."""
        place = torch.tensor(batch.rows)[batch.row] * 7.0 + batch.target
        if self.traits.reads == "prompt":
            return {
                "logp": -4 - place.sin(),
                "reference": -4 - (2 * place).sin(),
                "advantage": (3 * place).sin(),
                "value": (5 * place).sin(),
                "return": (7 * place).sin(),
            }
        return {KL: torch.full_like(batch.weight, 0.3)} if "kl" in self.traits.metrics else {}

    def cuts(self, units: Sequence[Unit]) -> dict[str, list[Batch]]:
        """The same rows in one batch, unit by unit, backwards, and packed into bins of two sizes."""
        sizes = [sum(map(len, unit)) for unit in units]
        bins = {size: pack(sizes, size) for size in (30, 64)}
        return {
            "one by one": [self.batch([unit]) for unit in units],
            "backwards": [self.batch(units[::-1])],
            **{
                f"bins of {size}": [self.batch([units[i] for i in each]) for each in made]
                for size, made in bins.items()
            },
        }
