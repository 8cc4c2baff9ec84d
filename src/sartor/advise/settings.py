"""Every automatic value of a recipe, decided in one place, each with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sartor import registry
from sartor.advise import fit, memory, shape
from sartor.advise import parallel as sharing
from sartor.advise.hardware import Dtype, Hardware, number_type
from sartor.advise.parallel import ONE, Parallel, Processes
from sartor.console import size as in_bytes
from sartor.errors import ModelError, Problem
from sartor.models.heads import HeadSpec
from sartor.models.kinds import TOLD, Kind, reach
from sartor.recipe.schema import Component
from sartor.store import environment
from sartor.tokens.source import StepSize, boundaries

if TYPE_CHECKING:
    from sartor.models.catalog import ModelFolder
    from sartor.options import Auto
    from sartor.protocols import Traits
    from sartor.recipe.auto import Resolution
    from sartor.recipe.schema import Recipe

HEAD_RATE = 3e-3
"""Largest rate where a head begins from nothing, as `probe` takes for one alone: factors and virtual tokens bear more, it does not."""
TARGET_STEPS = {"pretrain": 200}
USUAL_STEPS = 600
EPOCHS = (3, 20)
EPOCHS_OF = {"prefer": (1, 3)}
"""Least and most epochs by task, where they are others: comparisons are soon learnt by heart."""
VALIDATIONS = 20
SMALL_MODEL = 50_000_000
"""Parameters under which the whole model is tuned by default."""
ROW_CAP = {"validation": 500, "test": 1000}
MICRO_TOKENS = {"cpu": 8192, "cuda": 32768}
LONGEST = 2048


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What a training stage has to know of a recipe, nothing left open. Every rank is told the same."""

    task: str
    head: HeadSpec | None
    """What the model is to have in the place of words; None: words."""
    method: Component
    objective: Component
    optimizer: Component
    device: str
    dtype: Dtype
    threads: int
    learning_rate: float
    size: StepSize
    micro_tokens: int
    steps: int
    steps_per_epoch: int
    validate_every: int
    validation_rows: int
    save_every: int
    gradient_checkpointing: bool
    compile: bool
    kernels: Literal["native", "plain"]
    parallel: Parallel
    trainable: int


@dataclass(frozen=True, slots=True)
class Settings(StageSettings):
    """A recipe with nothing left open, and what is predicted of it."""

    hardware: Hardware
    memory: memory.Peak
    """Predicted peak of training."""
    plan: fit.Plan
    """What memory and time are predicted from."""
    warnings: tuple[Problem, ...] = ()
    """What the user should know about these settings."""


def longest_row(recipe: Recipe, base: ModelFolder, resolution: Resolution) -> int:
    """Tokens of the longest row that is allowed."""
    wanted = recipe.data.max_tokens
    window, taken = reach(base), _virtual_places(recipe)
    told = f", {taken} virtual tokens taken off" if taken else ""
    window = None if window is None else window - taken
    if wanted == "auto":
        value = min(window or LONGEST, LONGEST)
        why = f"the model's window is {window:,}{told}" if window else "the model names no window"
        resolution.decide("data.max_tokens", value, f"{why}; at most {LONGEST:,} by default")
        return value
    if window and wanted > window:
        raise ModelError(
            Problem(
                "M130",
                f"data.max_tokens is {wanted:,}, but the model was made for at most {window:,}{told}",
                fix=f"data.max_tokens: {window}",
            )
        )
    return wanted


def _virtual_places(recipe: Recipe) -> int:
    """How much of the model's window goes to every row beside its own tokens."""
    if recipe.method == "auto":
        return 0
    count = getattr(registry.component("method", recipe.method.name), "places", None)
    return 0 if count is None else int(count(recipe.method.options))


def choose_objective(
    recipe: Recipe, resolution: Resolution, task: str, *, model: Kind = "causal", rows: str = "example"
) -> Component:
    """What is minimised, for a kind of model and of rows."""
    if recipe.train.objective != "auto":
        return recipe.train.objective
    name, why = usual_objective(task, model, rows)
    resolution.decide("train.objective", name, why)
    return Component(name=name, options=registry.component("objective", name).Options())


def usual_objective(task: str, model: Kind, rows: str) -> tuple[str, str]:
    """(objective, reason)."""
    why = f"the task is {task}, the base is {TOLD[model]}"
    if task == "pretrain":
        return {
            "causal": "pretrain",
            "vision": "pretrain",
            "encoder": "masked_lm",
            "encoder_decoder": "span_corruption",
        }[model], why
    if task == "prefer":
        return (
            ("kto", "rows are verdicts on single answers") if rows == "judged" else ("dpo", f"rows are of kind {rows}")
        )
    if task in ("regress", "tag"):
        return task, f"the task is {task}"
    if task == "classify" and model == "encoder":
        return ("multilabel", f"{why}, rows have lists of labels") if rows == "labelled" else ("classify", why)
    return "sft", f"the task is {task}"


def decide(
    recipe: Recipe,
    resolution: Resolution,
    *,
    task: str,
    objective: Component,
    base: ModelFolder,
    lengths: np.ndarray,
    validation_rows: int,
    hardware: Hardware,
    scored: float = 1.0,
    processes: Processes = ONE,
    head: HeadSpec | None = None,
    teacher: ModelFolder | None = None,
    written: int = 0,
    most_tokens: int = 0,
    writing: memory.Writing | None = None,
) -> Settings:
    """Fill in every further `auto`, given the lengths in tokens of the training rows (or units of them) and the share of them that is learnt.

    `teacher` is a further model that the objective asks. Answers of up to `written` tokens may come in the place of the rows' own,
    up to `most_tokens` with their prompts; `writing` says how the model writes such. Raises ModelError M131 when it cannot fit.
    """
    form = shape.read(base.root.config, base.root.weight_files)
    train = recipe.train

    optimizer = train.optimizer
    if optimizer == "auto":
        optimizer = Component(name="adamw", options=registry.component("optimizer", "adamw").Options())
        resolution.decide("train.optimizer", "adamw", "the usual choice for transformers")

    dtype, why = number_type(hardware, form.parameters, recipe.base.dtype)
    if recipe.base.dtype == "auto":
        resolution.decide("base.dtype", dtype, why)
    threads = _auto(resolution, "train.threads", train.threads, hardware.cores, "every core this process may use")

    method, why = choose_method(recipe, form.parameters)
    if recipe.method == "auto":
        resolution.decide("method", method.name, why)
    moves = registry.component("method", method.name)
    trainable, width = moves.trainable(form, method.options), moves.width(form, method.options)
    if moves.SAVES == "model" and train.vision == "frozen":
        trainable -= form.looking
    if getattr(method.options, "alpha", None) == "auto":
        scale: float = method.options.scale  # type: ignore[attr-defined]
        resolution.decide(f"method.{method.name}.alpha", scale, "twice the rank")
    rate = getattr(optimizer.options, "learning_rate", "auto")
    if rate == "auto":
        rate, why = _of_objective(objective.name, *moves.learning_rate(form.parameters, method.options))
        rate, why = own_rate(optimizer, _round(rate), why)
        resolution.decide(f"train.optimizer.{optimizer.name}.learning_rate", rate, why)

    size = _step_size(recipe, resolution, task)
    per_epoch = len(boundaries(lengths, size))
    steps = train.steps
    if steps is None:
        epochs = train.epochs
        if epochs == "auto":
            target, (least, longest) = TARGET_STEPS.get(task, USUAL_STEPS), EPOCHS_OF.get(task, EPOCHS)
            epochs = float(min(max(math.ceil(target / per_epoch), least), longest))
            why = f"about {target} steps of {per_epoch} an epoch, {least} to {longest} epochs; stops early"
            resolution.decide("train.epochs", epochs, why)
        steps = max(1, round(epochs * per_epoch))

    objective = _with_reference(objective, resolution, steps >= per_epoch)

    every = min(per_epoch, math.ceil(steps / VALIDATIONS))
    why = f"about {VALIDATIONS} in the run, at least one an epoch"
    validate_every = _auto(resolution, "train.validation.every", train.validation.every, every, why)
    most = ROW_CAP["validation"]
    why = f"all of them, at most {most}"
    rows = _auto(resolution, "train.validation.rows", train.validation.rows, min(validation_rows, most), why)
    why = "at every validation"
    save_every = _auto(resolution, "train.checkpoint.every", train.checkpoint.every, validate_every, why)

    compiled = train.compile
    if compiled == "auto":
        compiled = False
        why = "compiling takes about half a minute; set it to true for runs of hours"
        resolution.decide("train.compile", compiled, why)
    kernels = train.kernels
    if kernels == "auto":
        kernels, why = choose_kernels(hardware, compiled)
        resolution.decide("train.kernels", kernels, why)

    hardware = hardware.share(processes.here)
    held = 0.0 if train.anchor == "none" else float(registry.component("anchor", train.anchor.name).BYTES)
    if written and writing is not None and size.examples is not None:
        writing = replace(writing, rows=min(writing.rows, size.examples))
    if written:
        lengths = np.maximum(lengths, np.minimum(lengths + written, most_tokens))
    job = memory.Job(
        dtype=dtype,
        trainable=trainable,
        state=fit.state_bytes(optimizer.name, form, trainable, width) + held * trainable,
        tokens=int(lengths.max()),
        rows=memory.Rows.of(lengths),
        scored=scored,
        rank=width,
        dropout=train.dropout > 0,
        kernels=kernels == "native",
        tiles=hardware.tiles,
        device=hardware.device,
        weight_bytes=moves.weight_bytes(method.options) if hasattr(moves, "weight_bytes") else None,
        writing=writing,
        asked=_asked(form, objective, moves.SAVES == "model", teacher, dtype),
    )
    parallel = sharing.choose(
        recipe,
        resolution,
        processes,
        method=method,
        optimizer=optimizer,
        dtype=dtype,
        fixed=int(sum(memory.held(form, job).values())),
        free=hardware.memory,
    )
    job = replace(job, shards=processes.size if parallel == "fsdp2" else 1)
    plan = fit.Plan(form, job, int(lengths.max()), _largest_step(lengths, size, recipe.seed), optimizer.name, held)
    micro, plan = _fit_memory(recipe, resolution, plan, hardware)
    warning = fit.tight(plan, hardware, micro, open_size=train.micro_batch_tokens == "auto")
    return Settings(
        task=task,
        head=head,
        method=method,
        objective=objective,
        optimizer=optimizer,
        device=hardware.device,
        dtype=dtype,
        threads=threads,
        learning_rate=float(rate),
        size=size,
        micro_tokens=micro,
        steps=steps,
        steps_per_epoch=per_epoch,
        validate_every=validate_every,
        validation_rows=min(rows, validation_rows),
        save_every=save_every,
        gradient_checkpointing=plan.job.checkpointed,
        compile=compiled,
        kernels=kernels,
        parallel=parallel,
        trainable=trainable,
        hardware=hardware,
        memory=memory.largest(form, plan.at(micro)),
        plan=plan,
        warnings=() if warning is None else (warning,),
    )


def _with_reference(objective: Component, resolution: Resolution, whole: bool) -> Component:
    """The objective with its reference measured beforehand or not, where that is left open; `whole`: every row is taken."""
    if getattr(objective.options, "precompute_reference", None) != "auto":
        return objective
    why = "every row is taken, so asking once costs less" if whole else "not every row is taken"
    resolution.decide(f"train.objective.{objective.name}.precompute_reference", whole, why)
    options = objective.options.model_copy(update={"precompute_reference": whole})
    return Component(name=objective.name, options=options)


def _of_objective(name: str, rate: float, why: str) -> tuple[float, str]:
    """(peak rate of AdamW, reason) for an objective that bears less than sft, or that learns a head from nothing."""
    module = registry.component("objective", name)
    share = getattr(module, "RATE", 1.0)
    if share != 1.0:
        rate, why = share * rate, f"{share:g} of what sft bears, for {name}: {why}"
    if module.TRAITS.head != "words" and rate > HEAD_RATE:
        return HEAD_RATE, f"as much as a new head bears; without one {rate:.1e}: {why}"
    return rate, why


def _asked(form: shape.Shape, objective: Component, whole: bool, teacher: ModelFolder | None, dtype: Dtype) -> float:
    """Bytes of the models that are only asked; `whole`: the model's own weights move, so that its start needs a copy."""
    traits: Traits = registry.component("objective", objective.name).TRAITS
    known = getattr(objective.options, "precompute_reference", False) is True
    size = memory.weight_bytes(form, dtype) if whole and "reference" in traits.roles and not known else 0
    if teacher is not None:
        size += memory.weight_bytes(shape.read(teacher.root.config, teacher.root.weight_files), dtype)
    return float(size)


def choose_kernels(hardware: Hardware, compiled: bool) -> tuple[Literal["native", "plain"], str]:
    """(kernels, reason): ours on a CPU where a compiler can build them, Liger's on a GPU where they are installed."""
    if compiled:
        return "plain", "train.compile compiles the layers instead"
    if hardware.device == "cuda" and find_spec("liger_kernel") is not None:
        return "native", "liger-kernel is installed; each kernel is checked on this model before use"
    if hardware.device != "cpu":
        return "plain", f"no kernels for {hardware.device} are installed; for CUDA: pip install liger-kernel"
    compiler = environment.compiler()
    if compiler is None:
        return "plain", "no C++ compiler (g++ or clang++) was found to build the kernels"
    return "native", f"{Path(compiler).name} builds them in seconds, once; each is checked on this model before use"


def _auto(resolution: Resolution, key: str, wanted: int | Auto, value: int, why: str) -> int:
    """What the recipe says, or `value` with its reason on record."""
    if wanted != "auto":
        return wanted
    resolution.decide(key, value, why)
    return value


def choose_method(recipe: Recipe, parameters: int) -> tuple[Component, str]:
    """(method, reason): the recipe's, or every weight of a small model and adapters on a large one."""
    if recipe.method != "auto":
        return recipe.method, "set in the recipe"
    name = "full" if parameters < SMALL_MODEL else "lora"
    size = f"{parameters / 1e6:.1f}M parameters"
    why = f"{size}: an adapter would save little" if name == "full" else f"{size}: adapters save memory and forget less"
    return Component(name=name, options=registry.component("method", name).Options()), why


def own_rate(optimizer: Component, adamw: float, why: str) -> tuple[float, str]:
    """(peak rate, reason) of an optimiser, given those of AdamW."""
    rate, reason = registry.component("optimizer", optimizer.name).learning_rate(adamw, optimizer.options)
    return _round(rate), why if rate == adamw else f"{reason} (AdamW's would be {adamw:g})"


def _round(value: float) -> float:
    return float(f"{value:.1e}")


def _step_size(recipe: Recipe, resolution: Resolution, task: str) -> StepSize:
    batch = recipe.train.batch
    if batch != "auto":
        return StepSize(examples=batch.examples, tokens=batch.tokens)
    if task == "pretrain":
        resolution.decide("train.batch", {"tokens": 8192}, "documents differ in length; tokens make even steps")
        return StepSize(tokens=8192)
    resolution.decide("train.batch", {"examples": 16}, "16 to 64 rows a step suit fine-tuning")
    return StepSize(examples=16)


def _largest_step(lengths: np.ndarray, size: StepSize, seed: int) -> int:
    """Tokens of the largest optimiser step of the first epoch."""
    shuffled = lengths[np.random.default_rng([seed, 0]).permutation(len(lengths))]
    ends = boundaries(shuffled, size)
    return int(np.add.reduceat(shuffled, [0, *ends[:-1]]).max())


def _fit_memory(recipe: Recipe, resolution: Resolution, plan: fit.Plan, hardware: Hardware) -> tuple[int, fit.Plan]:
    """(tokens of a micro-batch, the plan with gradient checkpointing decided). Raises ModelError M131 where it cannot fit."""
    train, budget = recipe.train, int(fit.USABLE * hardware.memory)
    wanted = train.micro_batch_tokens
    most = MICRO_TOKENS[hardware.device] if wanted == "auto" else max(wanted, plan.longest)

    def room(checkpointed: bool) -> int | None:
        return replace(plan, job=replace(plan.job, checkpointed=checkpointed)).most(budget, most)

    def enough(tokens: int | None) -> bool:
        return tokens is not None and (wanted == "auto" or tokens >= most)

    checkpointing = train.gradient_checkpointing
    if checkpointing == "auto":
        checkpointing = not enough(room(False)) and enough(room(True))
        why = "activations would not fit into memory" if checkpointing else "activations fit into memory"
        resolution.decide("train.gradient_checkpointing", checkpointing, why)
    plan = replace(plan, job=replace(plan.job, checkpointed=checkpointing))
    micro = room(checkpointing)
    if micro is None or not enough(micro):
        raise fit.refuse(plan, hardware, most, open_size=wanted == "auto")
    if wanted == "auto":
        resolution.decide("train.micro_batch_tokens", micro, f"fits into {in_bytes(hardware.memory)} of free memory")
    return max(micro, plan.longest), plan
