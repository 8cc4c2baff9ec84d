"""Looks at every round for signs that the policy has found out how to be rewarded rather than how to be good.

Rewards that rise while answers grow or shrink out of their range, repeat themselves or all become alike, or while the policy
runs away from its reference, are such signs (Gao et al. 2023, arXiv:2210.10760; Skalse et al. 2022, arXiv:2209.13085).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

FIRST = 3
"""Rounds at the beginning that tell what is usual."""
LENGTHS = (0.5, 2.0)
"""Answers may become this many times as long as usual."""
REPEATS = 0.2
"""Share of four-token sequences said before in the same answer that may be added to what is usual."""
DISTINCT = 0.5
"""Share of the usual distinct pairs of tokens that has to be left."""
ENTROPY = 0.2
"""Share of the usual entropy that has to be left."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round was like; means over its answers."""

    reward: float
    kl: float
    """Nats an answer that the policy was away from the reference"""
    tokens: float
    """Length"""
    unfinished: float
    """Share of answers that did not end by themselves"""
    repetition: float
    """Share of sequences of four tokens that the same answer has said before"""
    distinct: float
    """Different pairs of neighbouring tokens over all pairs, in all answers together"""
    entropy: float
    """Nats a token, estimated by the tokens drawn"""

    def json(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


def repetition(ids: np.ndarray, length: int = 4) -> float:
    """[L] -> the share of its sequences of `length` tokens that it has said before; 0 where it is shorter."""
    count = len(ids) - length + 1
    if count < 1:
        return 0.0
    sequences = np.lib.stride_tricks.sliding_window_view(ids, length)
    return 1.0 - len(np.unique(sequences, axis=0)) / count


def distinct(answers: Sequence[np.ndarray], length: int = 2) -> float:
    """Different sequences of `length` tokens over all of them, in all answers together; 1 where there are none."""
    found = [np.lib.stride_tricks.sliding_window_view(ids, length) for ids in answers if len(ids) >= length]
    if not found:
        return 1.0
    every = np.concatenate(found)
    return len(np.unique(every, axis=0)) / len(every)


@dataclass
class Monitor:
    """A pure fold of the rounds it has seen.

    Args:
        bound: nats an answer that the policy may be away from the reference.
    """

    bound: float
    first: list[Measured] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    """Names of what is out of its range now; each is told once until it has come back."""

    def see(self, now: Measured) -> Iterator[tuple[str, str]]:
        """(code, what is wrong) of everything that has just left its range: N425 only while rewards rise, N426 always."""
        out = {"kl": self._away(now)} if now.kl > self.bound else {}
        if len(self.first) < FIRST:
            self.first.append(now)
        else:
            out |= self._suspicious(now)
        yield from (found for name, found in out.items() if name not in self.told)
        self.told = set(out)

    def _away(self, now: Measured) -> tuple[str, str]:
        return "N426", f"{now.kl:.3g} nats an answer away from the reference, more than kl_bound {self.bound:g}"

    def _suspicious(self, now: Measured) -> dict[str, tuple[str, str]]:
        usual = {name: float(np.mean([getattr(each, name) for each in self.first])) for name in now.json()}
        if now.reward <= usual["reward"]:
            return {}
        risen = f"the reward has risen from {usual['reward']:.3g} to {now.reward:.3g}"
        return {
            name: ("N425", f"{risen} while {WORDS[name]} went from {usual[name]:.3g} to {getattr(now, name):.3g}")
            for name in _out_of_range(now, usual)
        }

    def state(self) -> dict[str, Any]:
        """A JSON object from which `restore` continues."""
        return {"first": [each.json() for each in self.first], "told": sorted(self.told)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.first = [Measured(**each) for each in state["first"]]
        self.told = set(state["told"])


WORDS = {
    "tokens": "the length of answers, in tokens,",
    "repetition": "the share of repeated sequences",
    "distinct": "the share of distinct pairs of tokens",
    "entropy": "the entropy of tokens, in nats,",
}
"""What is out of its range, in words."""


def _out_of_range(now: Measured, usual: Mapping[str, float]) -> Iterator[str]:
    low, high = (share * usual["tokens"] for share in LENGTHS)
    if not low <= now.tokens <= high:
        yield "tokens"
    if now.repetition > usual["repetition"] + REPEATS:
        yield "repetition"
    if now.distinct < DISTINCT * usual["distinct"]:
        yield "distinct"
    if now.entropy < ENTROPY * usual["entropy"]:
        yield "entropy"
