"""Batches that the live policy has written: a `BatchSource` whose rows are its own answers to prompts.

A round: the next prompts of an order that is a pure function of (seed, epoch, cursor) are answered by the policy as it is, every
answer with a random stream of its own; answers are rewarded; log-probabilities of policy and reference (and values) are measured
once, on the very batches of the first pass, so that at its first step the ratio of now to then is exactly 1. Then the round is
learnt from, `passes` times, in steps of the recipe's size, each pass in an order of its own.

A run that is killed goes on in the middle of a round: all of it is in `state`. The next round begins with the same weights and
the same streams, so it is the one that the unbroken run would have written.

Several ranks write, judge and measure some of the answers each and tell them to all, so that every rank has the same round; then
each takes its share of every step, as of any other source.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.errors import InputError, Problem
from sartor.events import Event, Noted, Rolled, Stepped
from sartor.generate.sampling import Sampling
from sartor.models.still import Still
from sartor.protocols import Credit
from sartor.rollouts.advantages import Written, credit
from sartor.rollouts.monitor import Measured, Monitor, distinct, repetition
from sartor.rollouts.prompts import Answer, Asked
from sartor.rollouts.round import Round
from sartor.rollouts.together import COMPANY, Company
from sartor.tokens.batch import Batch, Rendered
from sartor.tokens.source import Step, StepSize, boundaries, seated

if TYPE_CHECKING:
    from sartor.generate.local import LocalGenerator
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Policy
    from sartor.rollouts.prompts import Prompts
    from sartor.rollouts.rewards import Reward
    from sartor.tokens.store import TokenRows

GAIN = 0.1
"""How strongly the penalty follows its target: K of Ziegler et al. 2019, section 2.2."""
SURPRISE = 0.2
"""The relative error of the drift counts up to this."""
SAMPLES = "rounds"
"""Folder with the answers of every round."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How rounds are written and learnt from."""

    prompts: int
    samples: int
    passes: int
    credit: Credit
    size: StepSize
    """Answers, or tokens of them with their prompts, of one optimiser step"""
    steps: int
    """Optimiser steps in the whole run"""
    seed: int
    max_new_tokens: int
    most_tokens: int
    """Prompt and answer together, at most"""
    temperature: float = 1.0
    unfinished: float = 0.0
    """Taken off the reward of an answer that did not end by itself"""
    penalty: float = 0.0
    """Taken off for each nat of drift from the reference"""
    target: float = 0.0
    """Nats an answer that the penalty is adapted to keep; 0: it stays as it is"""
    kl_stop: float = 0.0
    """Nats a token from which the other passes over a round are left out; 0: never"""
    kl_bound: float = 10.0
    """Nats an answer from which a warning is given"""


class RolloutSource:
    """Implements `BatchSource` over prompts.

    Args:
        policy: the model that learns, as it learns.
        reference: the model that training started from.
        generator: makes the policy's text; over the same policy.
        reward: judges answers; the same numbers on every rank.
        micro_tokens: tokens of one forward pass, at most; None: answers one by one.
        share: compute once what rows of a micro-batch begin with; exact without dropout.
        emit: takes one `Rolled` for each round, and warnings.
        folder: where the answers of every round are kept; None keeps none.
        mix: rows of the data whose likelihood is learnt beside the answers, as many to a step.
        company: the ranks that write rounds and take steps together.
    """

    def __init__(
        self,
        policy: ModelPolicy,
        reference: Policy,
        prompts: Prompts,
        generator: LocalGenerator,
        reward: Reward,
        plan: Plan,
        *,
        micro_tokens: int | None,
        share: bool,
        emit: Callable[[Event], None],
        folder: Path | None = None,
        mix: TokenRows | Sequence[Rendered] = (),
        company: Company = COMPANY,
    ) -> None:
        self.policy, self.reference, self.prompts, self.generator = policy, reference, prompts, generator
        self.reward, self.plan, self.micro_tokens = reward, plan, micro_tokens
        self.steps, self.done = plan.steps, 0
        self.beta = plan.penalty
        self.monitor = Monitor(plan.kl_bound)
        self._share, self._emit, self._folder, self._mix = share, emit, folder, mix
        self._company = company
        self._still = Still(policy)
        self._asked = self._rounds = 0
        self._round: Round | None = None
        self._pass = self._index = 0
        self._last = (0, 0, 0)
        self._drifts: list[float] = []

    @property
    def epochs(self) -> float:
        """How often every prompt has been asked so far."""
        return self._asked / len(self.prompts)

    def take(self) -> Step:
        """The next optimiser step; where a round is over, the policy writes the next. Raises StopIteration after the last."""
        if self.done >= self.steps:
            raise StopIteration
        if self._round is None or self._over(self._round):
            self._round = self._roll()
            self._pass = self._index = 0
            self._drifts = []
        self._last = self._pass, self._index, self.done
        self._index += 1
        self.done += 1
        return self._step(self._round, *self._last)

    def again(self, micro_tokens: int | None) -> Step:
        """The step taken last once more, packed into micro-batches of another size from now on."""
        self.micro_tokens = micro_tokens
        assert self._round is not None
        return self._step(self._round, *self._last)

    def see(self, event: Event) -> None:
        """Hear of every step taken: how far the policy has moved from the one that wrote the round."""
        if isinstance(event, Stepped):
            self._drifts.append(event.metrics["drift"])

    def state(self) -> dict[str, Any]:
        """Everything, with the round in progress."""
        return {
            "done": self.done,
            "asked": self._asked,
            "rounds": self._rounds,
            "pass": self._pass,
            "index": self._index,
            "drifts": self._drifts,
            "beta": self.beta,
            "monitor": self.monitor.state(),
            "round": None if self._round is None else self._round.json(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.done, self._asked, self._rounds = state["done"], state["asked"], state["rounds"]
        self._pass, self._index = state["pass"], state["index"]
        self._drifts, self.beta = list(state["drifts"]), state["beta"]
        self.monitor.restore(state["monitor"])
        self._round = None if state["round"] is None else Round.from_json(state["round"])

    # learning from a round

    def _over(self, made: Round) -> bool:
        """Whether the round has been learnt from; goes on to its next pass where one is left."""
        if self._index < len(self._cuts(made, self._pass)):
            return False
        drift = float(np.mean(self._drifts)) if self._drifts else 0.0
        self._pass, self._index, self._drifts = self._pass + 1, 0, []
        if self._pass == self.plan.passes:
            return True
        if self.plan.kl_stop and drift > self.plan.kl_stop:
            left = self.plan.passes - self._pass
            what = (
                f"round {made.number}: {drift:.3g} nats a token from the policy that wrote it; {left} passes left out"
            )
            self._emit(Noted("info", "N427", what, self.done))
            return True
        return False

    def _cuts(self, made: Round, number: int) -> list[np.ndarray]:
        """The answers of each step of a pass; those of the first stand as they were written."""
        order = np.arange(len(made))
        if number:
            order = np.random.default_rng([self.plan.seed, 5, made.number, number]).permutation(len(made))
        return np.split(order, boundaries(made.lengths[order], self.plan.size)[:-1])

    def _step(self, made: Round, number: int, index: int, done: int) -> Step:
        """A pure function of its arguments and the plan."""
        members = self._cuts(made, number)[index]
        scored = int(made.answers[members].sum())
        batches = [made.dressed(batch) for batch in self._laid(made, members)]
        mixed = self._mixed(len(members), scored, done)
        batches += seated([[row] for row in mixed], self.micro_tokens, self._company.seat)
        return Step(
            batches=tuple(batches),
            rows=tuple(made.rows[member] for member in members),
            tokens=int(made.lengths[members].sum()) + sum(map(len, mixed)),
            supervised=scored,
        )

    def _laid(self, made: Round, members: np.ndarray) -> list[Batch]:
        """The micro-batches that this rank takes of them."""
        units = [[made.rendered(int(member))] for member in members]
        return seated(units, self.micro_tokens, self._company.seat, share=self._share)

    def _mixed(self, count: int, scored: int, done: int) -> list[Rendered]:
        """Rows of the data, their weights such that the divisor of the answers makes a mean of them."""
        if not len(self._mix):
            return []
        draw = np.random.default_rng([self.plan.seed, 6, done]).integers(len(self._mix), size=count)
        rows = [self._mix[int(place)] for place in draw]
        whole = sum(float(row.weight[1:].sum()) for row in rows)
        return [replace(row, weight=row.weight * (scored / whole)) for row in rows]

    # writing a round

    def _roll(self) -> Round:
        """Let the policy answer the next prompts, and find out all that is learnt from."""
        began = time.monotonic()
        answers, groups, scores = self._rewarded()
        made = Round(
            self._rounds,
            tuple(answer.asked.row for answer in answers),
            tuple(np.concatenate([answer.asked.ids, answer.ids]).astype(np.int32) for answer in answers),
            tuple(len(answer.asked.ids) for answer in answers),
        )
        columns = self._measured(made)
        written = Written(scores, groups, columns["logp"], columns["reference"], columns.get("value", ()))
        found = credit(written, self.plan.credit, self.beta)
        columns["advantage"] = found.advantages
        if found.returns:
            columns["return"] = found.returns
        self._tell(made, answers, written, began)
        self._rounds += 1
        return replace(made, columns=columns)

    def _next_prompts(self) -> Iterator[Asked]:
        count = len(self.prompts)
        for _ in range(self.plan.prompts):
            epoch, cursor = divmod(self._asked, count)
            order = np.random.default_rng([self.plan.seed, 4, epoch]).permutation(count)
            yield self.prompts[int(order[cursor])]
            self._asked += 1

    def _rewarded(self) -> tuple[list[Answer], np.ndarray, np.ndarray]:
        """([R] answers, [R] which prompt of the round each is to, [R] rewards). Raises InputError N423 where none has any."""
        asked = list(self._next_prompts())
        limits = [max(0, min(self.plan.max_new_tokens, self.plan.most_tokens - len(each.ids))) for each in asked]
        every = self._company.written(
            self.generator,
            asked,
            limits,
            sampling=Sampling(self.plan.temperature),
            seed=_seed(self.plan.seed, self._rounds),
            samples=self.plan.samples,
        )
        answers, groups = [answer for _, answer in every], np.array([group for group, _ in every], np.int64)
        scores = self.reward.score(answers) if answers else np.empty(0)
        stopped = np.array([answer.stopped for answer in answers], np.bool_)
        scores = scores - self.plan.unfinished * ~stopped
        known = np.flatnonzero(np.isfinite(scores))
        count = len(asked) * self.plan.samples
        lost = count - len(known)
        if lost:
            what = f"round {self._rounds}: {lost} of {count} answers have no reward; they are not learnt from"
            self._emit(Noted("warning", "N422", what, self.done))
        if not len(known):
            fix = "see what the reward gives for answers like these; prompts need room for an answer"
            raise InputError(Problem("N423", f"round {self._rounds}: no answer of the policy has a reward", fix=fix))
        return [answers[place] for place in known], groups[known], scores[known]

    def _measured(self, made: Round) -> dict[str, Sequence[np.ndarray]]:
        """What policy and reference say of every token, on the batches of the first pass; every rank asks for its own."""
        told = self._company.ranks.each(lambda: made.told(self._asked_of(made)))
        return made.gathered(told)

    def _asked_of(self, made: Round) -> dict[str, dict[int, np.ndarray]]:
        """By name of the column, numbers of the tokens of each answer in this rank's batches."""
        found: dict[str, dict[int, np.ndarray]] = {"logp": {}, "reference": {}}
        valued = self.plan.credit.rule == "gae"
        if valued:
            found["value"] = {}
        for members in self._cuts(made, 0):
            for laid in self._laid(made, members):
                batch = laid.to(self.policy.device)
                if valued:
                    logp, values = self._still.logp_and_values(batch)
                    found["value"] |= made.parted(laid, values)
                else:
                    logp = self._still.logp(batch)
                found["logp"] |= made.parted(laid, logp)
                found["reference"] |= made.parted(laid, self.reference.logp(batch))
        return found

    def _tell(self, made: Round, answers: Sequence[Answer], written: Written, began: float) -> None:
        """Keep the answers, report the round, adapt the penalty."""
        drift = np.array(
            [float((a - b).sum()) for a, b in zip(written.logp, written.reference, strict=True)], np.float64
        )
        now = Measured(
            reward=float(written.scores.mean()),
            kl=float(drift.mean()),
            tokens=float(made.answers.mean()),
            unfinished=float(np.mean([not answer.stopped for answer in answers])),
            repetition=float(np.mean([repetition(answer.ids) for answer in answers])),
            distinct=distinct([answer.ids for answer in answers]),
            entropy=float(-np.concatenate(written.logp).mean()),
        )
        if self._folder is not None:
            _keep(self._folder / SAMPLES / f"round-{made.number:05d}.jsonl", answers, written.scores, drift)
        metrics = now.json() | {"penalty": self.beta}
        seconds = round(time.monotonic() - began, 3)
        self._emit(Rolled(self.done, made.number, len(answers), metrics, seconds))
        for code, what in self.monitor.see(now):
            self._emit(Noted("warning", code, f"round {made.number}: {what}", self.done))
        if self.plan.target:
            error = np.clip(now.kl / self.plan.target - 1, -SURPRISE, SURPRISE)
            self.beta *= 1 + GAIN * float(error)


def _seed(seed: int, number: int) -> int:
    """Where the random streams of a round's answers begin."""
    return int(np.random.SeedSequence([seed, 3, number]).generate_state(1, np.uint32)[0])


def _keep(path: Path, answers: Sequence[Answer], scores: np.ndarray, drift: np.ndarray) -> None:
    """Write the answers of a round, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for answer, score, kl in zip(answers, scores.tolist(), drift.tolist(), strict=True):
            body = {
                "row": answer.asked.row,
                "prompt": answer.asked.text,
                "answer": answer.text,
                "reward": score,
                "kl": kl,
                "tokens": len(answer.ids),
                "finished": answer.stopped,
            }
            file.write(json.dumps(body, ensure_ascii=False) + "\n")
