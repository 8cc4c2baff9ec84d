"""Which key stands for which label, and how answers are put in order by keys; the terminal and the page agree on both."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from sartor.data.annotate.marks import Ranking

COMMANDS = {"s": "skip", "u": "undo", "n": "note", "f": "flag", "g": "guidelines", "q": "quit"}
"""Letters that no label gets. Enter takes the suggestion, / finds a label by its name."""
KEYS = string.digits[1:] + "".join(letter for letter in string.ascii_lowercase if letter not in COMMANDS)


def keys(labels: Sequence[str]) -> dict[str, str]:
    """Key -> label: digits, then letters; labels beyond these have none and are found by name."""
    return dict(zip(KEYS, labels, strict=False))


def found(labels: Sequence[str], typed: str) -> list[str]:
    """The labels that match what was typed: the one of this name, else those that begin with it, else those that hold it."""
    wanted = typed.strip().casefold()
    for matches in (str.__eq__, str.startswith, str.__contains__):
        hits = [label for label in labels if matches(label.casefold(), wanted)]
        if hits:
            return hits
    return []


@dataclass(slots=True)
class Placing:
    """Answers being put in order, worst first."""

    answers: int
    levels: list[list[int]] = field(default_factory=list)
    tied: bool = False
    """Whether the next one goes beside the last one placed."""

    @property
    def complete(self) -> bool:
        """Whether every answer has its place."""
        return sum(map(len, self.levels)) == self.answers

    def put(self, answer: int) -> None:
        """Place an answer above those placed before, or beside the last. One that is placed, or is none, changes nothing."""
        if not 0 <= answer < self.answers or any(answer in level for level in self.levels):
            return
        if self.tied:
            self.levels[-1].append(answer)
        else:
            self.levels.append([answer])
        self.tied = False

    def tie(self) -> None:
        """The next answer is as good as the last one."""
        self.tied = bool(self.levels) and not self.complete and not self.tied

    def back(self) -> None:
        """Take the last answer back."""
        if self.levels:
            self.levels[-1].pop()
            if not self.levels[-1]:
                self.levels.pop()
        self.tied = False

    def ranking(self, shown: Sequence[int]) -> Ranking:
        """The order in terms of the file, where `shown` holds the number of the answer at each place on screen."""
        return tuple(tuple(shown[place] for place in level) for level in self.levels)
