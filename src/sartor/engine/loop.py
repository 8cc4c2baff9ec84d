"""The training loop: a generator of events over any objective, source and policy. It calls no plug-in.

One optimiser step takes the micro-batches the source gives, adds up gradients of *sums*, divides once by the summed weight,
clips, and moves. Every step reseeds dropout from (seed, step), so a resumed run draws what the unbroken one would have.
`examples/minimal_sft.py` is the same loop in a hundred lines, kept equal by a test.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from sartor.engine.memory import give_back, peak_memory
from sartor.engine.state import Progress, read_state, state_writers
from sartor.engine.updater import Updater
from sartor.errors import Interrupted, Problem, TrainingStopped
from sartor.events import Event, Finished, Noted, Saved, Started, Stepped, Validated
from sartor.models.policy import CausalPolicy
from sartor.protocols import Loss, Policy, Watcher
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Batch
from sartor.tokens.source import TokenSource

SKIPS_IN_A_ROW = 3
GIVE_BACK_EVERY = 32
"""Steps between returns of freed memory, which cost some page faults each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of one training stage."""

    seed: int
    factor: Callable[[int, int], float]
    """(step, steps) -> share of the peak learning rate."""
    validate_every: int
    save_every: int
    save_seconds: float = 600.0
    keep: int = 1
    on_spike: Literal["stop", "skip"] = "stop"
    name_row: Callable[[int], str] = field(default=str)
    """Dataset index -> file:line, for messages."""


Objective = Callable[[Policy, Batch], Loss]
Validate = Callable[[], Mapping[str, float]]


def fit(
    policy: CausalPolicy,
    objective: Objective,
    source: TokenSource,
    updater: Updater,
    plan: Plan,
    *,
    validate: Validate | None,
    watchers: Sequence[Watcher],
    checkpoints: Checkpoints,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train to the last step, or until a watcher stops it; ends with the best step's weights in the policy.

    Resumes from the newest valid checkpoint when there is one. Raises TrainingStopped (N401) on non-finite numbers, with the
    weights of the last checkpoint restored, and Interrupted after saving when `stop_asked` says so.
    """
    progress = Progress()
    newest = checkpoints.newest()
    if newest is not None:
        progress = read_state(newest, updater, source)
        for event in progress.history:
            for watcher in watchers:
                watcher.see(event)
        if validate is not None and int(newest.name.rpartition("-")[2]) == progress.best_step:
            checkpoints.mark_best(progress.best_step)
    trainable = sum(p.numel() for p in updater.weights.parameters.values())
    total = sum(p.numel() for p in policy.model.parameters())
    yield Started(progress.step, source.steps, source.epochs, trainable, total)
    run = _Fit(policy, objective, source, updater, plan, validate, watchers, checkpoints, stop_asked, progress)
    yield from run.steps()
    yield from run.finish()


@dataclass
class _Fit:
    policy: CausalPolicy
    objective: Objective
    source: TokenSource
    updater: Updater
    plan: Plan
    validate: Validate | None
    watchers: Sequence[Watcher]
    checkpoints: Checkpoints
    stop_asked: Callable[[], bool]
    progress: Progress
    skipped: int = 0
    saved_at: float = field(default_factory=time.monotonic)

    def steps(self) -> Iterator[Event]:
        if self.progress.step == 0 and not self.progress.history:
            yield from self._validation()
            yield from self._save()
        stop = self.progress.stopped is not None
        while self.source.done < self.source.steps and not stop:
            yield from self._step()
            step = self.progress.step
            last = self.source.done >= self.source.steps
            before = self.progress.best_step
            if self.validate is not None and (last or step % self.plan.validate_every == 0):
                yield from self._validation()
            stop, best = self.progress.stopped is not None, self.progress.best_step != before
            asked = self.stop_asked()
            due = step % self.plan.save_every == 0 or time.monotonic() - self.saved_at > self.plan.save_seconds
            if best or last or stop or asked or due:
                yield from self._save()
            if asked and not (last or stop):
                raise Interrupted(
                    Problem("F150", f"stopped at step {step} of {self.source.steps}, everything is saved")
                )

    def _validation(self) -> Iterator[Event]:
        if self.validate is None:
            return
        began = time.monotonic()
        metrics = dict(self.validate())
        event = Validated(
            self.progress.step,
            round(self.source.epochs, 4),
            metrics,
            self.progress.train_loss,
            round(time.monotonic() - began, 3),
        )
        self.progress.history.append(event)
        self.progress.forget_loss()
        yield event
        for watcher in self.watchers:
            verdict = watcher.see(event)
            if verdict is None:
                continue
            if verdict.keep:
                self.progress.best_step = event.step
            if verdict.stop:
                self.progress.stopped = verdict.note
            if verdict.note:
                yield Noted("info" if verdict.stop else "warning", verdict.code, verdict.note, event.step)

    def _step(self) -> Iterator[Event]:
        began = time.monotonic()
        step = self.progress.step + 1
        batches = self.source.take()
        while True:
            try:
                total, weight = self._gradients(batches, step)
                break
            except (torch.OutOfMemoryError, RuntimeError) as fault:
                if not _out_of_memory(fault) or self.source.micro_tokens is None or len(batches[0].lengths) == 1:
                    raise
            self.updater.weights.clear()
            gc.collect()
            batches = self.source.again(max(1, self.source.micro_tokens // 2))
            yield Noted("warning", "N403", f"out of memory; micro-batches of {self.source.micro_tokens} tokens", step)
        if not bool(weight > 0):
            raise self._stopped("T202", "no trained token in the batch", batches, step)
        norm = self.updater.norm(weight)
        loss, norm_value = float(total / weight), float(norm)
        if not (_finite(loss) and _finite(norm_value)):
            yield from self._spike(loss, norm_value, batches, step)
            return
        self.skipped = 0
        rate = self.updater.apply(norm, self.plan.factor(step, self.source.steps))
        if step % GIVE_BACK_EVERY == 0:
            give_back(self.policy.device)
        tokens, supervised = sum(batch.tokens for batch in batches), sum(len(batch.at) for batch in batches)
        self.progress.took(step, loss, float(weight), tokens, supervised, time.monotonic() - began)
        yield Stepped(
            step,
            self.source.steps,
            round(self.source.epochs, 4),
            loss,
            rate,
            norm_value,
            tokens,
            supervised,
            round(time.monotonic() - began, 4),
            peak_memory(self.policy.device),
        )

    def _gradients(self, batches: Sequence[Batch], step: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed((self.plan.seed << 32) + step)
        self.policy.train()
        total = torch.zeros((), dtype=torch.float32, device=self.policy.device)
        weight = torch.zeros((), dtype=torch.float32, device=self.policy.device)
        for batch in batches:
            loss = self.objective(self.policy, batch.to(self.policy.device))
            loss.total.backward()  # type: ignore[no-untyped-call]
            self.updater.weights.absorb()
            total += loss.total.detach()
            weight += loss.weight.detach()
        return total, weight

    def _spike(self, loss: float, norm: float, batches: Sequence[Batch], step: int) -> Iterator[Event]:
        self.updater.weights.clear()
        what = f"loss is {loss:.4g}, gradient norm {norm:.4g}"
        self.skipped += 1
        if self.plan.on_spike == "stop" or self.skipped >= SKIPS_IN_A_ROW:
            raise self._stopped("N401", what, batches, step)
        self.progress.step = step
        yield Noted("warning", "N402", f"{what}; step skipped ({self._rows(batches)})", step)

    def _stopped(self, code: str, what: str, batches: Sequence[Batch], step: int) -> TrainingStopped:
        newest = self.checkpoints.newest()
        at = self.progress.step
        if newest is not None:
            at = read_state(newest, self.updater, self.source).step
        return TrainingStopped(
            Problem(
                code,
                f"step {step}: {what}; nothing of this step was kept, the weights are those of step {at}",
                excerpt=f"Batch: {self._rows(batches)}.",
                fix="a lower learning rate, or look at these rows; train.on_spike: skip leaves single steps out",
            )
        )

    def _rows(self, batches: Sequence[Batch]) -> str:
        names = [self.plan.name_row(row) for batch in batches for row in batch.rows]
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    def _save(self) -> Iterator[Event]:
        step = self.progress.step
        if not self.updater.finite():
            raise self._stopped("N401", "a weight is not finite", [], step)
        writers = state_writers(self.updater, self.source, self.progress)
        path = self.checkpoints.save(step, writers, keep=self.plan.keep)
        best = self.validate is not None and self.progress.best_step == step
        if best:
            self.checkpoints.mark_best(step)
        self.saved_at = time.monotonic()
        yield Saved(step, str(path), best)

    def finish(self) -> Iterator[Event]:
        best_step = self.progress.step
        if self.validate is not None:
            best = self.checkpoints.best()
            if best is not None:
                best_step = read_state(best, self.updater, None).step
            else:
                what = f"the checkpoint of the best step, {self.progress.best_step}, is lost; the last weights are kept"
                yield Noted("warning", "N412", what, best_step)
        self.policy.eval()
        progress = self.progress
        yield Finished(
            progress.step,
            best_step,
            progress.stopped or "took every step",
            progress.tokens,
            progress.supervised,
            round(progress.seconds, 3),
            peak_memory(self.policy.device),
        )


def _finite(value: float) -> bool:
    return value - value == 0.0


def _out_of_memory(fault: BaseException) -> bool:
    return isinstance(fault, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(fault)


def mean_loss(policy: CausalPolicy, batches: Iterator[Batch]) -> dict[str, Any]:
    """Mean loss per scored weight over batches, without gradients, dropout off; perplexity is its exponential."""
    policy.eval()
    total, weight = 0.0, 0.0
    with torch.no_grad():
        for batch in batches:
            moved = batch.to(policy.device)
            total += float(policy.nll(moved))
            weight += float(moved.weight.sum())
    loss = total / weight
    return {"loss": loss, "perplexity": float(torch.tensor(loss, dtype=torch.float64).exp())}
