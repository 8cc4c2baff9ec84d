"""Fits training into memory, and where it does not fit finds the change that costs the user least.

Smaller micro-batches cost nothing; gradient checkpointing costs a third more time, bfloat16 some precision, adapters some of
what can be learnt, a lighter optimiser a change of rates, and shorter rows what is cut off (`CHANGES`). All sets of changes are
tried in the order of what they cost together, and every number said is computed for that set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING

from sartor import registry
from sartor.advise import memory
from sartor.console import size
from sartor.errors import ModelError, Problem

if TYPE_CHECKING:
    from sartor.advise.hardware import Hardware
    from sartor.advise.memory import Job, Peak
    from sartor.advise.shape import Shape

USABLE = 0.9
"""Share of the free memory that may be planned with; the rest is for what the prediction misses and for everybody else."""
TIGHT = 0.75
"""Share of the free memory from which on a run is said to be tight."""
RANK = 16
"""Of the adapters that are proposed."""
ROUND = 64
"""Sizes of micro-batches are multiples of this many tokens."""
SHORTEST = 64
"""Tokens of a row under which shorter rows are not proposed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Training as far as it decides memory; `job.tokens` is what a micro-batch may hold, a longer row goes alone."""

    form: Shape
    job: Job
    longest: int
    """Tokens of the longest row."""
    step_tokens: int
    """Tokens of the largest optimiser step."""
    optimizer: str
    held: float = 0.0
    """Bytes that an anchor keeps for each number that moves."""

    def at(self, tokens: int) -> Job:
        """The job with micro-batches of at most `tokens`."""
        tokens = min(max(tokens, self.longest), max(self.step_tokens, self.longest))
        return replace(self.job, tokens=tokens, passes=math.ceil(self.step_tokens / tokens))

    def peak(self, tokens: int) -> Peak:
        """The predicted peak with micro-batches of at most `tokens`."""
        return memory.largest(self.form, self.at(tokens))

    def most(self, budget: int, wanted: int) -> int | None:
        """The largest micro-batch up to `wanted` that needs no more than `budget` bytes; None where no row fits."""
        low, high = self.longest, max(wanted, self.longest)
        if self.peak(high).needed <= budget:
            return wanted
        if self.peak(low).needed > budget:
            return None
        while high - low > max(16, low // 64):
            middle = (low + high) // 2
            low, high = (middle, high) if self.peak(middle).needed <= budget else (low, middle)
        return max(low - low % ROUND, self.longest)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the recipe and what it costs."""

    recipe: str
    cost: str
    plan: Plan


def state_bytes(optimizer: str, form: Shape, trainable: int, rank: int) -> float:
    """Bytes of state in all. Some optimisers treat tables (embeddings and heads) unlike matrices."""
    module = registry.component("optimizer", optimizer)
    tables = 0 if rank else min(form.tables, trainable)
    apart = getattr(module, "TABLE_STATE_BYTES", module.STATE_BYTES)
    return float(module.STATE_BYTES * (trainable - tables) + apart * tables)


def refuse(plan: Plan, hardware: Hardware, wanted: int, *, open_size: bool) -> ModelError:
    """The error M131 with the cheapest change that fits. `open_size`: the recipe leaves the size of micro-batches open."""
    needed = plan.peak(plan.longest if open_size else wanted).needed
    fix = cheapest(plan, int(USABLE * hardware.memory), wanted, open_size=open_size)
    told = f"training needs about {size(needed)}, {size(hardware.memory)} are free"
    return ModelError(Problem("M131", told, fix=fix or _base(plan, int(USABLE * hardware.memory))))


def tight(plan: Plan, hardware: Hardware, wanted: int, *, open_size: bool) -> Problem | None:
    """A warning M132 where little memory is left, with the cheapest change that leaves more."""
    needed = plan.peak(wanted).needed
    if needed <= TIGHT * hardware.memory:
        return None
    told = f"training needs about {size(needed)} of {size(hardware.memory)} that are free, which is tight"
    fix = cheapest(plan, int(TIGHT * hardware.memory), wanted, open_size=open_size)
    return Problem("M132", told, fix=fix, level="warning")


def cheapest(plan: Plan, budget: int, wanted: int, *, open_size: bool) -> str | None:
    """The first of all changes, alone or with those before it, with which training needs at most `budget` bytes."""
    sets = (chosen for count in range(len(CHANGES) + 1) for chosen in combinations(CHANGES, count))
    for chosen in sorted(sets, key=lambda chosen: sum(map(CHANGES.__getitem__, chosen))):
        made = list(_apply(plan, chosen, budget))
        last = made[-1].plan if made else plan
        tokens = last.most(budget, wanted)
        if tokens is None or len(made) < len(chosen):
            continue
        words = [change.recipe for change in made]
        if tokens < wanted and not (open_size and made):
            words.append(f"train.micro_batch_tokens: {tokens}")
        costs = [change.cost for change in made]
        return f"{', '.join(words)} ({'; '.join((f'about {size(last.peak(tokens).needed)}', *costs))})"
    return None


def _apply(plan: Plan, chosen: Iterable[Callable[[Plan, int], Change | None]], budget: int) -> Iterator[Change]:
    """The chosen changes in their order, each on top of the one before; those that would change nothing are left out."""
    for change in chosen:
        made = change(plan, budget)
        if made is not None:
            plan = made.plan
            yield made


def _checkpointed(plan: Plan, budget: int) -> Change | None:
    if plan.job.checkpointed:
        return None
    job = replace(plan.job, checkpointed=True)
    return Change("train.gradient_checkpointing: true", "about a third slower", replace(plan, job=job))


def _shorter_numbers(plan: Plan, budget: int) -> Change | None:
    if plan.job.dtype != "float32":
        return None
    return Change("base.dtype: bfloat16", "products less exact", replace(plan, job=replace(plan.job, dtype="bfloat16")))


def _adapters(plan: Plan, budget: int) -> Change | None:
    if plan.job.rank:
        return None
    trainable = plan.form.low_rank(RANK)
    state = state_bytes(plan.optimizer, plan.form, trainable, RANK) + plan.held * trainable
    job = replace(plan.job, rank=RANK, trainable=trainable, state=state)
    return Change("method: lora", "adapters learn a little less", replace(plan, job=job))


def _lighter(plan: Plan, budget: int) -> Change | None:
    """The heaviest optimiser lighter than this one that fits, so that as little as possible changes."""
    own = registry.component("optimizer", plan.optimizer).STATE_BYTES
    lighter = {name: registry.component("optimizer", name) for name in registry.names("optimizer") if name != "sgd"}
    lighter = {name: module for name, module in lighter.items() if own > module.STATE_BYTES and _installed(module)}
    found = None
    for name in sorted(lighter, key=lambda name: (-lighter[name].STATE_BYTES, name)):
        state = state_bytes(name, plan.form, plan.job.trainable, plan.job.rank) + plan.held * plan.job.trainable
        changed = replace(plan, job=replace(plan.job, state=state), optimizer=name)
        found = Change(f"train.optimizer: {name}", "another optimiser", changed)
        if changed.most(budget, plan.longest) is not None:
            break
    return found


def _installed(module: object) -> bool:
    needs = getattr(module, "NEEDS", None)
    return needs is None or find_spec(needs[0]) is not None


def _shorter_rows(plan: Plan, budget: int) -> Change | None:
    """The longest rows that fit."""
    low, high = SHORTEST, plan.longest
    if high <= low or replace(plan, longest=low).peak(low).needed > budget:
        return None
    while high - low > 8:
        middle = (low + high) // 2
        fits = replace(plan, longest=middle).peak(middle).needed <= budget
        low, high = (middle, high) if fits else (low, middle)
    low -= low % 8
    cut = f"rows of up to {plan.longest:,} tokens are cut or refused"
    return Change(f"data.max_tokens: {low}", cut, replace(plan, longest=low))


CHANGES = {_checkpointed: 2, _shorter_numbers: 3, _adapters: 6, _lighter: 8, _shorter_rows: 12}
"""What each costs the user, as a weight. Smaller micro-batches, which cost nothing, go with all of them."""


def _base(plan: Plan, budget: int) -> str:
    """About how large a base may be: what is held grows with its parameters."""
    bare = replace(plan, longest=min(plan.longest, SHORTEST))
    for change in _apply(bare, (_checkpointed, _shorter_numbers, _adapters), budget):
        bare = change.plan
    process = memory.own(bare.job.dtype, bare.job.device)
    share = max(0, budget - process) / max(1, bare.peak(bare.longest).needed - process)
    most = share * plan.form.parameters
    if most < 1e6:
        return "free some memory: not even a model of a million parameters fits"
    return f"a base of at most about {most / 1e6:,.0f} million parameters, with method: lora and base.dtype: bfloat16"
