"""No dead knobs among the options of judges; each option of each of them has a probe here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sartor import registry
from sartor.data.rows import Example, Message, Origin
from sartor.evaluate.compare import compare
from sartor.evaluate.suites import Ground
from sartor.protocols import Outcome, Reply, Speaker
from sartor.recipe.shape import knobs

PREFIX = "evaluate.judge[]."
RUBRIC = "name: rubric\nscale: [1, 10]\ninstruction: Grade.\n"
CHANGED: dict[str, Any] = {
    "model": "other",
    "endpoint": "http://127.0.0.1:8/v1",
    "key": "OTHER",
    "gold": "people.jsonl",
    "rows": 3,
    "tries": 1,
    "max_new_tokens": 7,
    "price.read": {"read": 5.0, "written": 1.0},
    "price.written": {"read": 1.0, "written": 5.0},
    "rubrics": ["own.yaml"],
    "against": ["few_shot"],
}
"""Another value of each."""


class Judge:
    """Writes down how it is asked; every third question gets a reply that cannot be read, the first time."""

    def __init__(self) -> None:
        self.asked: list[tuple[Speaker, str, int]] = []
        self.speaker = Speaker("")

    def __call__(self, speaker: Speaker) -> Judge:
        self.speaker = speaker
        return self

    def write(self, prompts: Sequence[str], **given: Any) -> Iterator[tuple[int, str]]:
        for reply in self.replies(prompts, **given):
            yield reply.place, reply.text

    def replies(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int) -> Iterator[Reply]:
        for place, prompt in enumerate(prompts):
            self.asked.append((self.speaker, prompt, max_new_tokens))
            told = json.dumps({"reason": "so", "score": 1 + len(prompt) % 5, "winner": "A"})
            yield Reply(place, "hm" if place % 3 == 2 and temperature == 0 else told, (10, 3))


def said(name: str) -> list[Outcome]:
    return [Outcome(f"r{n}", f"Question {n}?", f"{n}", f"{name} {'so ' * (n % 3)}{n}") for n in range(6)]


def picture(name: str, root: Path, **changes: Any) -> Any:
    """Everything that a report would tell, and all that the judge was asked."""
    given = {"model": "judge", "endpoint": "http://127.0.0.1:9/v1", "price": {"read": 1.0, "written": 1.0}} | changes
    rows = [
        Example(
            origin=Origin("a", n),
            id=f"r{n}",
            messages=(Message("user", f"Question {n}?"), Message("assistant", f"{n}")),
        )
        for n in range(6)
    ]
    known = {model: said(model) for model in ("base", "few_shot", "tuned")}
    module, judge = registry.component("judge", name), Judge()
    suite = module.suite(
        module.Options.model_validate(given), Ground(root, rows=rows, test=range(6), models=judge, known=dict(known))
    )
    outcomes = list(suite.judged("tuned", known["tuned"], range(len(suite)), None, lambda event: None))
    told = compare({"tuned": outcomes}, suite.metrics, resamples=200).json()
    return told, sorted(map(str, judge.asked)), suite.why


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(RUBRIC)
    records = [
        {"id": f"r{n}", "model": "tuned", "score": n % 5 + 1, "accuracy": n % 5 + 1, "winner": "tuned"}
        for n in range(3)
    ]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


KEYS = sorted(key.removeprefix(PREFIX) for key in knobs() if key.startswith(PREFIX))


def test_every_option_has_a_probe() -> None:
    assert {key.split(".", 1)[0] for key in KEYS} == set(registry.names("judge"))
    assert {key.split(".", 1)[1] for key in KEYS} == set(CHANGED)


@pytest.mark.parametrize("key", KEYS)
def test_a_knob_of_a_judge_acts(key: str, root: Path) -> None:
    name, option = key.split(".", 1)
    before = picture(name, root)
    assert picture(name, root) == before
    assert picture(name, root, **{option.partition(".")[0]: CHANGED[option]}) != before
