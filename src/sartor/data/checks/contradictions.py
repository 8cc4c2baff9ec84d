"""The same question with another answer: one of the two is wrong, or the question lacks what decides between them.

train.jsonl:12: warning D160: same prompt as train.jsonl:4, other answer ("refund" / "no refund") (9 prompts).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines, quoted
from sartor.data.clusters import asking
from sartor.data.dataset import Dataset
from sartor.data.groups import first_equal
from sartor.data.rows import Example
from sartor.data.split import Splits
from sartor.data.wording import answered, normal
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

SHORT = 60
"""Answers up to this many characters are facts that can contradict; longer ones may just be worded differently."""
READ = 20_000
"""Rows with a repeated prompt that are read; of more, the first ones."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D160, once, at the first row whose short answer differs from an earlier row's with the same prompt."""
    index = dataset.index
    prompt = asking(index.prompt)
    first_asked = first_equal(prompt)
    disputed = np.zeros(len(dataset), np.bool_)
    disputed[first_asked[index.text != index.text[first_asked]]] = True
    rows = np.flatnonzero(disputed[first_asked] & (prompt > 0))[:READ]
    answers: dict[str, tuple[int, str]] = {}
    differing: list[int] = []
    prompts: set[str] = set()
    first = ""
    for at in rows:
        row = dataset[int(at)]
        if not isinstance(row, Example) or len(answered(row)) > SHORT:
            continue
        question, answer = normal(row.prompt_text()), answered(row)
        earlier, said = answers.setdefault(question, (int(at), answer))
        if normal(said) != normal(answer):
            if not differing:
                first = f"same prompt as {dataset.origin(earlier)}, other answer ({quoted((said, answer))})"
            differing.append(int(at))
            prompts.add(question)
    if differing:
        origin = dataset.origin(differing[0])
        count = f" ({len(prompts):,} prompts)" if len(prompts) > 1 else ""
        yield Problem(
            "D160",
            first + count,
            file=origin.file,
            line=origin.line,
            fix="keep the right answer, or add to the prompt what decides between them",
            level="warning",
            rows=further_lines(dataset, np.array(differing), differing[0]),
        )
