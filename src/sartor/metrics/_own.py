"""A metric of one's own: one decorated function in a file that the recipe names.

from sartor import metric

@metric(higher_is_better=False)
def too_many_words(prediction: str, reference: str) -> float:
    return max(0, len(prediction.split()) - 50)

metrics: ["metrics.py:too_many_words"]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

Function = TypeVar("Function", bound=Callable[..., Any])
Judges = Literal["prediction", "label"]


@overload
def metric(function: Function) -> Function: ...


@overload
def metric(*, higher_is_better: bool = True, judges: Judges = "prediction") -> Callable[[Function], Function]: ...


def metric(
    function: Function | None = None, *, higher_is_better: bool = True, judges: Judges = "prediction"
) -> Function | Callable[[Function], Function]:
    """Mark a function of (prediction, reference), or of (prediction, reference, columns), as a metric: its mean over rows.

    It stays the function it is, so that it can be called and tested. It returns a finite number or a bool for each row.

    Args:
        function: the function, where the decorator stands without arguments.
        higher_is_better: its direction.
        judges: what it gets as prediction: the generated answer, or the best label where labels are scored.
    """

    def marked(own: Function) -> Function:
        vars(own).update(higher_is_better=higher_is_better, judges=judges)
        return own

    return marked if function is None else marked(function)


def judged(function: Callable[..., Any]) -> str:
    """What a user's function judges: prediction or label."""
    return "label" if getattr(function, "judges", "prediction") == "label" else "prediction"
