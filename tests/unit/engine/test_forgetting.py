"""The alarm over general ability: once, beyond doubt, and with a stop where that is wanted."""

from __future__ import annotations

import pytest

from sartor.engine.watchers.forgetting import Forgetting
from sartor.events import Validated


def validated(step: int, general: float, error: float = 0.0) -> Validated:
    return Validated(step, 0.0, {"loss": 1.0, "general": general, "general_error": error}, 1.0)


@pytest.mark.parametrize("stop", [False, True])
def test_it_speaks_once_when_the_fall_passes_the_bound(stop: bool) -> None:
    watcher = Forgetting(0.1, stop=stop)
    said = [watcher.see(validated(step, value)) for step, value in enumerate((0.8, 0.9, 0.71, 0.69, 0.2))]
    assert [verdict is not None for verdict in said] == [False, False, False, True, False]
    verdict = said[3]
    assert verdict is not None
    assert (verdict.stop, verdict.code) == (stop, "N416")
    assert "from 0.800 to 0.690" in verdict.note
    assert ("replay" in verdict.note) != stop


def test_few_questions_need_a_larger_fall() -> None:
    watcher = Forgetting(0.1, stop=False)
    assert watcher.see(validated(0, 0.8, 0.05)) is None
    assert watcher.see(validated(1, 0.65, 0.05)) is None
    assert watcher.see(validated(2, 0.61, 0.05)) is not None


def test_validations_without_the_score_say_nothing() -> None:
    assert Forgetting(0.1, stop=True).see(Validated(0, 0.0, {"loss": 1.0}, 1.0)) is None
