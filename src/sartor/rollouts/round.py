"""A round: answers that the policy has written, with what was known of their tokens when it wrote them.

It is all that a resumed run needs to go on in the middle of it, so it can be written into JSON bit by bit.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sartor.tokens.batch import Batch, Rendered

COLUMNS = ("logp", "reference", "advantage", "value", "return")
"""What a batch has of every scored place; value and return only with a value head."""


@dataclass(frozen=True, slots=True)
class Round:
    """R answers, each behind its prompt."""

    number: int
    rows: tuple[int, ...]
    """R indices in the data set"""
    ids: tuple[np.ndarray, ...]
    """R arrays int32, prompt and answer"""
    prompts: tuple[int, ...]
    """R lengths of the prompts"""
    columns: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    """By name, R arrays float32 with a number for each token of an answer"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """[R] tokens of prompt and answer."""
        return np.array([len(ids) for ids in self.ids], np.int64)

    @property
    def answers(self) -> np.ndarray:
        """[R] tokens of the answers."""
        return self.lengths - np.array(self.prompts, np.int64)

    def rendered(self, index: int) -> Rendered:
        """One answer with its tokens to be scored; its `row` is its number in the round, which `dressed` undoes."""
        weight = np.ones(len(self.ids[index]), np.float32)
        weight[: self.prompts[index]] = 0
        return Rendered(self.ids[index], weight, index)

    def dressed(self, batch: Batch) -> Batch:
        """A batch of rows that `rendered` gave, with the columns beside its places and the rows' own indices."""
        columns = {
            name: torch.from_numpy(np.concatenate([values[index] for index in batch.rows]))
            for name, values in self.columns.items()
        }
        return replace(batch, columns=columns, rows=tuple(self.rows[index] for index in batch.rows))

    def parted(self, batch: Batch, values: torch.Tensor) -> dict[int, np.ndarray]:
        """[N] numbers of a batch of rows that `rendered` gave, by number of the row in the round."""
        counts = self.answers[list(batch.rows)]
        parts = np.split(values.float().cpu().numpy(), np.cumsum(counts)[:-1])
        return dict(zip(batch.rows, parts, strict=True))

    def told(self, found: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, Any]:
        """Numbers of some answers' tokens, by column and by number of the answer in the round, as a JSON object."""
        return {
            name: {"answers": list(values), "bytes": _packed(list(values.values()), "<f4")}
            for name, values in found.items()
        }

    def gathered(self, shares: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[np.ndarray]]:
        """The columns of the round from what `told` gave of all its answers."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for share in shares:
            for name, part in share.items():
                values = _unpacked(part["bytes"], "<f4", self.answers[part["answers"]])
                found.setdefault(name, {}).update(zip(part["answers"], values, strict=True))
        return {name: [each[index] for index in range(len(self))] for name, each in found.items()}

    def json(self) -> dict[str, Any]:
        """A JSON object; arrays as bytes in base 64."""
        return {
            "number": self.number,
            "rows": list(self.rows),
            "prompts": list(self.prompts),
            "lengths": self.lengths.tolist(),
            "ids": _packed(self.ids, "<i4"),
            "columns": {name: _packed(values, "<f4") for name, values in self.columns.items()},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Round:
        """The inverse of `json`."""
        lengths, prompts = np.array(body["lengths"], np.int64), np.array(body["prompts"], np.int64)
        columns = {name: _unpacked(text, "<f4", lengths - prompts) for name, text in body["columns"].items()}
        ids = _unpacked(body["ids"], "<i4", lengths)
        return cls(body["number"], tuple(body["rows"]), ids, tuple(body["prompts"]), columns)


def _packed(arrays: Sequence[np.ndarray], dtype: str) -> str:
    return b64encode(b"".join(array.astype(dtype).tobytes() for array in arrays)).decode("ascii")


def _unpacked(text: str, dtype: str, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    whole = np.frombuffer(b64decode(text), dtype).astype(dtype[1:])
    return tuple(np.split(whole, np.cumsum(lengths)[:-1]))
