"""What a base without a head is worth for a task: a linear head fitted in one go on its frozen features.

The features of a row are the mean of its last hidden states, of a word those at its first token, each divided by its
deviation over the training rows. Labels: logistic regression (scikit-learn, C = 1), one against the rest where a row may have
several; numbers: ridge regression (alpha = 1). Nothing of the model moves. It stands for the base where that cannot be asked in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.rows import Row, Tagged
from sartor.evaluate.heads import Told, outcome_of, read_all, through
from sartor.events import Noted
from sartor.protocols import Outcome

if TYPE_CHECKING:
    import torch

    from sartor.models.base import ModelPolicy
    from sartor.models.heads import HeadSpec
    from sartor.tokens.batch import Batch
    from sartor.tokens.inputs import Inputs

MOST = 4096
"""Training rows, or words, that are fitted to."""
NAMED = "the base is measured as a linear head on its frozen features, fitted to {rows:,} training rows"


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A linear head: features -> outputs as a trained one would give them."""

    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        made: np.ndarray = features / self.scale @ self.weight.T + self.bias
        return made


class FeatureMeasurer:
    """A base with a fitted head.

    Args:
        policy: the base.
        inputs: how it reads rows, and what is to be learnt of them.
        head: the head that training is about.
        rows: training rows.
    """

    def __init__(self, policy: ModelPolicy, inputs: Inputs, head: HeadSpec, rows: Sequence[Row]) -> None:
        assert inputs.targets is not None
        self.policy, self.inputs, self.rows = policy, inputs, len(rows)
        self.head = replace(head, temperature=1.0, thresholds=())
        features = np.concatenate([np.atleast_2d(one) for one in self._features(rows)])
        wanted = np.concatenate([np.atleast_1d(inputs.targets.of(row)) for row in rows])
        if head.kind == "labels":
            wanted = wanted.reshape(len(rows), -1)
        some = np.random.default_rng(0).permutation(len(features))[:MOST]
        self.fitted = _fit(head, features[some], wanted[some])

    def block(self, rows: Sequence[Row]) -> list[Outcome]:
        """Outcomes of some rows."""
        scores = [self.fitted(one) for one in self._features(rows)]
        return [outcome_of(Told(row, one), self.head) for row, one in zip(rows, scores, strict=True)]

    def notes(self) -> Iterator[Noted]:
        """What stands for the base."""
        yield Noted("info", "E118", NAMED.format(rows=self.rows))

    def _features(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """[H] of each row; of words [words, H]."""
        read = read_all(self.inputs, rows, self.policy.window)
        words = bool(rows) and isinstance(rows[0], Tagged)
        return through(self.policy, read, self.policy.hidden if words else _means(self.policy), of_tokens=words)


def _means(policy: ModelPolicy) -> Callable[[Batch], torch.Tensor]:
    """[R, H] mean of each row's last hidden states."""

    def ask(batch: Batch) -> torch.Tensor:
        import torch

        parts = torch.split(policy.hidden(batch).float(), list(batch.lengths))
        return torch.stack([part.mean(dim=0) for part in parts])

    return ask


def _fit(head: HeadSpec, features: np.ndarray, wanted: np.ndarray) -> _Fitted:
    scale = features.std(axis=0)
    scale[scale < 1e-8] = 1.0
    x = features / scale
    if head.kind == "number":
        from sklearn.linear_model import Ridge

        line = Ridge(alpha=1.0).fit(x, wanted)
        return _Fitted(scale, np.atleast_2d(line.coef_), np.atleast_1d(line.intercept_))
    if head.kind == "labels":
        lines = [_logistic(x, column, 2) for column in wanted.T]
        weight, bias = (np.concatenate([line[part][1:] - line[part][:1] for line in lines]) for part in (0, 1))
        return _Fitted(scale, weight, bias)
    return _Fitted(scale, *_logistic(x, wanted, len(head.names)))


def _logistic(x: np.ndarray, wanted: np.ndarray, names: int) -> tuple[np.ndarray, np.ndarray]:
    """([names, H], [names]) of a multinomial regression; a label that no row has gets a score far below all others."""
    from sklearn.linear_model import LogisticRegression

    places = np.unique(wanted).astype(np.int64)
    weight, bias = np.zeros((names, x.shape[1])), np.full(names, -30.0)
    if len(places) < 2:
        bias[places] = 0.0
        return weight, bias
    model: Any = LogisticRegression(C=1.0, max_iter=1000).fit(x, wanted)
    if len(places) == 2:
        weight[places[1]], bias[places] = model.coef_[0], (0.0, float(model.intercept_[0]))
        return weight, bias
    weight[places], bias[places] = model.coef_, model.intercept_
    return weight, bias
