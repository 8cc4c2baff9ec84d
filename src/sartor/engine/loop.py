"""The training loop: a generator of events over any objective, source and policy. It calls no plug-in.

One optimiser step takes the micro-batches the source gives, adds up gradients of *sums*, divides once by the summed weight,
clips, and moves. The numbers of a step are read from the device once, together. Every micro-batch reseeds dropout from (seed,
step, rank, index), so a resumed run draws what the unbroken one would have. `examples/minimal_sft.py` is the same loop in a
hundred lines, kept equal by a test.

Several ranks run this very code. `updater.weights` says how they hold the weights and adds up what they found; the source
gives each its micro-batches. All of them see the same sums and so decide the same.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from sartor.engine.memory import Freed, peak_memory
from sartor.engine.precision import Objective
from sartor.engine.spike import spike
from sartor.engine.state import Progress, read_state, read_weights, state_writers
from sartor.engine.updater import Updater
from sartor.errors import Interrupted, Problem, SartorError, TrainingStopped
from sartor.events import Event, Finished, Noted, Saved, Started, Stepped, Validated
from sartor.models.base import ModelPolicy
from sartor.protocols import BatchSource, Watcher
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.source import Step

SKIPS_IN_A_ROW = 3


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
    metrics: tuple[str, ...] = ()
    """What the objective measures of every step beside its loss."""


Validate = Callable[[], Mapping[str, float]]


def fit(
    policy: ModelPolicy,
    objective: Objective,
    source: BatchSource,
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
    total = policy.model.num_parameters()
    yield Started(progress.step, source.steps, source.epochs, trainable, total)
    run = _Fit(policy, objective, source, updater, plan, validate, watchers, checkpoints, stop_asked, progress)
    yield from run.steps()
    yield from run.finish()


@dataclass
class _Fit:
    policy: ModelPolicy
    objective: Objective
    source: BatchSource
    updater: Updater
    plan: Plan
    validate: Validate | None
    watchers: Sequence[Watcher]
    checkpoints: Checkpoints
    stop_asked: Callable[[], bool]
    progress: Progress
    saved_at: float = field(default_factory=time.monotonic)
    asked: bool = False
    """Whether any rank was asked to stop."""
    due: bool = False
    """Whether the last checkpoint is too old, by rank 0's clock."""

    def __post_init__(self) -> None:
        self.freed = Freed(self.policy.device)

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
            if best or last or stop or self.asked or self.due or step % self.plan.save_every == 0:
                yield from self._save()
            if self.asked and not (last or stop):
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
        number = self.progress.step + 1
        step = self.source.take()
        while (sums := self._gradients(step, number)).out_of_memory:
            self.updater.weights.clear()
            gc.collect()
            step = self.source.again(max(1, (self.source.micro_tokens or 0) // 2))
            yield Noted("warning", "N403", f"out of memory; micro-batches of {self.source.micro_tokens} tokens", number)
        self.asked, self.due = sums.asked > 0, sums.due > 0
        if not sums.weight > 0:
            raise self._stopped("T202", "no trained token in the batch", step, number)
        loss = sums.total / sums.weight
        if not (math.isfinite(loss) and math.isfinite(sums.norm)):
            yield self._skip(f"loss is {loss:.4g}, gradient norm {sums.norm:.4g}", step, number)
            return
        unusual = spike(loss, self.progress.recent)
        if unusual and self.plan.on_spike == "skip":
            yield self._skip(unusual, step, number)
            return
        if unusual:
            yield Noted("warning", "N402", f"{unusual} ({self._rows(step)})", number)
        rate = self.updater.apply(sums.device_norm, self.plan.factor(number, self.source.steps))
        self.freed.settle()
        seconds = time.monotonic() - began
        self.progress.took(number, loss, sums.weight, step.tokens, step.supervised, seconds)
        yield Stepped(
            number,
            self.source.steps,
            round(self.source.epochs, 4),
            loss,
            rate,
            sums.norm,
            step.tokens,
            step.supervised,
            round(seconds, 4),
            peak_memory(self.policy.device),
            {name: value / sums.weight for name, value in zip(self.plan.metrics, sums.metrics, strict=True)}
            | ({} if sums.anchor is None else {"anchor": sums.anchor}),
        )

    def _gradients(self, step: Step, number: int) -> _Sums:
        """Forward and backward passes of this rank's micro-batches, summed over all ranks."""
        weights, device = self.updater.weights, self.policy.device
        self.policy.train()
        names = self.plan.metrics
        total = torch.zeros(2 + len(names), dtype=torch.float32, device=device)
        out_of_memory = False
        try:
            for index, batch in enumerate(step.batches):
                torch.manual_seed(_seed(self.plan.seed, number, weights.world.rank, index))
                loss = weights.loss(self.objective, self.policy, batch.to(device))
                weights.backward(loss.total, last=index + 1 == len(step.batches))
                found = [loss.total, loss.weight, *(loss.metrics[name] for name in names)]
                total += torch.stack([number.detach() for number in found])
        except RuntimeError as fault:
            if not (isinstance(fault, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(fault)):
                raise
            self._may_halve(step, number, fault)
            out_of_memory = True
        late = weights.world.first and time.monotonic() - self.saved_at > self.plan.save_seconds
        flags = torch.tensor([out_of_memory, self.stop_asked(), late], dtype=torch.float32)
        numbers = torch.cat([total, flags.to(device, non_blocking=True)])
        weights.reduce(numbers)
        norm = self.updater.norm(numbers[1])
        pulled = [] if self.updater.penalty is None else [self.updater.penalty]
        loss_sum, weight, *rest = torch.cat([numbers, torch.stack([norm, *pulled]).to(device)]).tolist()
        return _Sums(norm, loss_sum, weight, tuple(rest[: len(names)]), *rest[len(names) :])

    def _may_halve(self, step: Step, number: int, fault: BaseException) -> None:
        """Raise SartorError N404 where this step cannot be taken again in smaller micro-batches."""
        if self.updater.weights.lockstep:
            why = "ranks that hold shards cannot start a step over; train.parallel: ddp can"
        elif self.source.micro_tokens is None or max(batch.groups for batch in step.batches) == 1:
            why = "it was a single row"
        else:
            return
        what = f"step {number}: out of memory in a micro-batch of {max(batch.tokens for batch in step.batches)} tokens"
        fix = "train.gradient_checkpointing: true, train.micro_batch_tokens or data.max_tokens lower, or method: lora"
        raise SartorError(Problem("N404", f"{what}; {why}", fix=fix)) from fault

    def _skip(self, what: str, step: Step, number: int) -> Noted:
        """Leave a step out. Raises TrainingStopped where that is not wanted, or happens too often."""
        self.updater.weights.clear()
        self.progress.skipped += 1
        if self.plan.on_spike == "stop" or self.progress.skipped >= SKIPS_IN_A_ROW:
            raise self._stopped("N401", what, step, number)
        self.progress.step = number
        return Noted("warning", "N402", f"{what}; step skipped ({self._rows(step)})", number)

    def _stopped(self, code: str, what: str, step: Step | None, number: int) -> TrainingStopped:
        newest = self.checkpoints.newest()
        at = self.progress.step
        if newest is not None:
            at = read_state(newest, self.updater, self.source).step
        return TrainingStopped(
            Problem(
                code,
                f"step {number}: {what}; nothing of this step was kept, the weights are those of step {at}",
                excerpt=f"Batch: {self._rows(step)}." if step else None,
                fix="a lower learning rate, or look at these rows; train.on_spike: skip leaves single steps out",
            )
        )

    def _rows(self, step: Step) -> str:
        names = [self.plan.name_row(row) for row in step.rows]
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

    def _save(self) -> Iterator[Event]:
        step = self.progress.step
        if not self.updater.finite():
            raise self._stopped("N401", "a weight is not finite", None, step)
        self.updater.weights.check(step)
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
                self.freed.give_back()
                read_weights(best, self.updater.weights)
                best_step = int(best.name.rpartition("-")[2])
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


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the passes of one step gave on all ranks together, read from the device at once."""

    device_norm: torch.Tensor
    total: float
    weight: float
    metrics: tuple[float, ...]
    """Sums of what the objective measures."""
    out_of_memory: float
    """How many ranks ran out of it; the others count as well."""
    asked: float
    due: float
    norm: float
    anchor: float | None = None
    """What the anchor added to the mean loss."""


def _seed(seed: int, step: int, rank: int, index: int) -> int:
    """Where the dropout of one micro-batch begins."""
    return int(np.random.SeedSequence([seed, step, rank, index]).generate_state(1, np.uint64)[0])
