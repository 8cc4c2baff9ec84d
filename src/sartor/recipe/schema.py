"""The recipe: every key a user can write, its type, its default and what it does. Unknown keys are errors.

Shorthands are widened before validation: `base: NAME`, `data: PATH` or a list of paths, `goal: TEXT`, `method: NAME`,
`objective: NAME`, and `name: options` wherever a component with options is expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializeAsAny,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from sartor import registry
from sartor.options import Auto, NoOptions, Options

Task = Literal["auto", "chat", "generate", "classify", "regress", "tag", "prefer", "pretrain"]


class Rule(ValueError):
    """Values that do not go together; `key` is the one to point at, within the section that raised it."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class UnknownName(ValueError):
    """No component of this kind has this name; `key` as in `Rule`."""

    def __init__(self, kind: str, name: str, key: str | None = None) -> None:
        super().__init__(f'unknown {kind} "{name}"')
        self.kind, self.name, self.key = kind, name, key


class Component(Options):
    """A component by name with its own validated options. Written and saved as `{name: {option: value}}`."""

    name: str
    options: SerializeAsAny[Options]

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {self.name: self.options.model_dump()}


@dataclass(frozen=True)
class Of:
    """Marks a `Component` of one kind: `name` or `{name: {option: value}}`, validated with the component's own `Options`.

    `or_function`, `besides` and `prefix` are as in `NameOf`; a function and a further name have no options.
    """

    kind: str
    or_function: bool = False
    besides: tuple[str, ...] = ()
    prefix: str = ""

    def widen(self, value: Any) -> Any:
        """`name` means `{name: {}}`."""
        return {value: {}} if isinstance(value, str) else value

    def validate(self, value: Any) -> Component:
        """The component. Raises UnknownName, or what its options raise."""
        if isinstance(value, Component):
            return value
        value = self.widen(value)
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"expected one {self.kind}: its name, or {{name: {{option: value}}}}")
        ((name, options),) = value.items()
        name = str(name).removeprefix(self.prefix)
        given = {} if options is None else options
        if name in self.besides or (self.or_function and is_function(name)):
            if given:
                raise Rule(f"{name} has no settings", name)
            return Component(name=name, options=NoOptions())
        if name not in registry.names(self.kind):
            raise UnknownName(self.kind, name)
        return Component(name=name, options=registry.component(self.kind, name).Options.model_validate(given))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = registry.names(self.kind)
        options = {name: _whole(registry.component(self.kind, name).Options.model_json_schema()) for name in names}
        written = [
            {
                "type": "object",
                "properties": {name: {"anyOf": [options[name], {"type": "null"}]}},
                "required": [name],
                "additionalProperties": False,
            }
            for name in names
        ]
        plain = sorted({*names, *self.besides})
        ways = [{"enum": plain + [self.prefix + name for name in plain if self.prefix]}, *written]
        return {"anyOf": [*ways, FUNCTION] if self.or_function else ways}


@dataclass(frozen=True)
class All:
    """Marks a list of components of one kind that may be written `all`: every one that needs no options."""

    kind: str

    def widen(self, value: Any) -> Any:
        """`all` means the list of them."""
        if value != "all":
            return value
        fields = {name: registry.component(self.kind, name).Options.model_fields for name in registry.names(self.kind)}
        return [name for name, own in fields.items() if not any(field.is_required() for field in own.values())]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.widen, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": "all"}, handler(schema)]}


FUNCTION = {"type": "string", "pattern": r"\.py:\w+$"}
"""JSON schema of `file.py:function`."""


def is_function(value: str) -> bool:
    """Whether a name has the form `file.py:function`. Raises Rule where it is none, but has its colon."""
    if ":" not in value:
        return False
    file, _, function = value.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise Rule(f'"{value}" is not of the form file.py:function', value)
    return True


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema with what its references mean in their place, so that it can stand inside another one."""
    parts = schema.get("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return resolved(parts[value["$ref"].removeprefix("#/$defs/")]) | {
                key: resolved(entry) for key, entry in value.items() if key != "$ref"
            }
        return {key: resolved(entry) for key, entry in value.items() if key != "$defs"}

    found: dict[str, Any] = resolved(schema)
    return found


@dataclass(frozen=True)
class NameOf:
    """Marks the bare name of a component; with `or_function` also `file.py:function`.

    `besides` are further names that are allowed, `prefix` may stand before any name and is left out.
    """

    kind: str
    or_function: bool = False
    besides: tuple[str, ...] = ()
    prefix: str = ""

    def validate(self, value: str) -> str:
        """The name. Raises UnknownName."""
        value = value.removeprefix(self.prefix)
        if value in self.besides:
            return value
        if self.or_function and is_function(value):
            return value
        if value not in registry.names(self.kind):
            raise UnknownName(self.kind, value)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        plain = sorted({*registry.names(self.kind), *self.besides})
        names = {"enum": plain + [self.prefix + name for name in plain if self.prefix]}
        return {"anyOf": [names, FUNCTION]} if self.or_function else names


class Section(Options):
    """A section that may be written as the value of its main key alone."""

    main: ClassVar[str]

    @classmethod
    def widen(cls, value: Any) -> Any:
        """A bare text means `{main: text}`."""
        return {cls.main: value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _widen(cls, value: Any) -> Any:
        return cls.widen(value)


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
METRIC = NameOf("metric", or_function=True, besides=("reward",))
Metric = Annotated[Component, Of("metric", or_function=True, besides=METRIC.besides)]


class Gate(Options):
    """One criterion of success, fixed before the run. Exactly one rule. A gate passes on the bound of the interval, not on the point."""

    metric: Annotated[str, Field(min_length=1, examples=["exact_match"])]
    """Name of a metric, or file.py:function."""
    at_least: float | None = None
    """The score must be at least this."""
    at_most: float | None = None
    """The score must be at most this."""
    better_than: Annotated[str, Field(min_length=1, examples=["base"])] | None = None
    """The paired difference to this model must lie on the better side of zero: base, few_shot, retrieval, or another name of evaluate.against."""
    drop_at_most: float | None = None
    """The score may be worse than the base model's by at most this."""
    slice: Annotated[str, Field(pattern=r"^(all|[^=]+=.*\S.*)$", examples=["all", "queue=billing"])] | None = None
    """Decide it on a slice of evaluate.slices, or on each of them: all, or FIELD=VALUE."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the interval."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        rules = [self.at_least, self.at_most, self.better_than, self.drop_at_most]
        if sum(rule is not None for rule in rules) != 1:
            raise Rule("a gate needs exactly one of at_least, at_most, better_than, drop_at_most", "metric")
        return self


GENERAL = "general"
"""The metric of general ability."""
OF_GENERAL = (GENERAL, "general_accuracy", "general_bits_per_byte")
"""All metrics of general ability."""
SUITES = ("safety", "judge", "benchmark")
"""Kinds of components whose metrics a gate may name."""


def _known_metric(gate: Gate) -> Gate:
    if by_suite(gate.metric):
        return gate
    if gate.metric.startswith("human_"):
        what = f'"{gate.metric}" is said by people after the run has ended, so no gate can wait for it'
        raise Rule(f"{what}; ask them with sartor human RUN, and read the answer in the report", "metric")
    try:
        METRIC.validate(gate.metric)
    except UnknownName as error:
        raise UnknownName(error.kind, error.name, "metric") from None
    except ValueError as error:
        raise Rule(str(error), "metric") from None
    return gate


def by_suite(metric: str) -> bool:
    """Whether a metric is one of a safety measure, a judge, a benchmark or general ability."""
    return metric in OF_GENERAL or any(
        fnmatchcase(metric, pattern)
        for kind in SUITES
        for name in registry.names(kind)
        for pattern in registry.component(kind, name).METRICS
    )


class Goal(Section):
    """What the model should do better, and how we will know."""

    main: ClassVar[str] = "statement"

    task: Task = "auto"
    """chat, generate, classify, regress (a number), tag (words), prefer (compared answers) or pretrain; auto reads it off the data."""
    statement: str | None = None
    """One sentence: what goes in, what must come out."""
    success: tuple[Annotated[Gate, AfterValidator(_known_metric)], ...] = ()
    """Gates decided before training; they set the exit code."""

    @model_validator(mode="after")
    def _not_vague(self) -> Self:
        if self.statement is not None and len(self.statement.split()) < 3:
            raise Rule("the statement is too vague to measure: what goes in, what exactly must come out?", "statement")
        return self


class Base(Section):
    """The model to start from."""

    main: ClassVar[str] = "model"

    model: Annotated[str, Field(min_length=1, examples=["sartor/nano"])]
    """sartor/nano (embedded), a Hugging Face folder, a run folder, or a hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type; with bfloat16 the optimiser keeps float32 master weights."""
    template: str | None = None
    """Path of a Jinja chat template to use instead of the model's own; saved with the tuned model."""
    add_tokens: tuple[Annotated[str, Field(pattern=r"\S")], ...] = ()
    """Tokens that the model gets beside its own, e.g. ["<tool>", "</tool>"]: texts are cut at them; their rows begin as the mean of all and are trained."""


class Source(Section):
    """One file or folder of rows."""

    main: ClassVar[str] = "path"

    path: Annotated[str, Field(min_length=1, examples=["tickets.jsonl"])]
    """File, folder, glob, or builtin:demo, builtin:general, builtin:general-probe."""
    format: Annotated[str, NameOf("format")] | Auto = "auto"
    """Name of a data format; auto recognises it."""
    map: dict[str, str] = Field(default_factory=dict)
    """Our field name -> the file's column name, e.g. {prompt: question, completion: reply}."""
    group: str | None = None
    """Column whose equal values never straddle the split, e.g. customer_id."""
    id: str | None = None
    """Column that identifies a row; must be unique."""
    role: Literal["split", "train", "validation", "test", "replay"] = "split"
    """split: divide by data.split; or all rows go to the part named. replay: training rows against forgetting, that say nothing about the task."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """Share of the training tokens, e.g. 0.05; without one a source comes as it is. Where all sources have one they are relative."""


class Split(Options):
    """How rows are divided into train, validation and test: by clusters, so that nothing leaks."""

    train: Share = 0.8
    """Share of rows that are trained on."""
    validation: Share = 0.1
    """Share that steers training."""
    test: Share = 0.1
    """Share that is locked until the verdict."""
    stratify: str | None = None
    """Column whose shares are kept in every part; the label, where rows have one."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of word shingles from which two rows count as the same and stay together."""
    seed: int = 7
    """Rows go to the same part for the same seed, whatever their order in the file."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise Rule(f"train, validation and test must add up to 1, not {total:g}", "train")
        if self.train == 0:
            raise Rule("train must be more than 0", "train")
        return self


class Bias(Section):
    """How training rows about groups of people are compared, and evened out."""

    main: ClassVar[str] = "terms"

    terms: str | tuple[str, ...] = ()
    """YAML lists of yours (attribute, language, groups, terms) beside those for gender, origin, religion, age, ability and orientation."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of data sets without any difference that may have a finding (S401); larger finds more."""
    reweigh: str | None = None
    """An attribute, e.g. gender: labelled rows count in the loss so that labels no longer depend on its groups."""

    @classmethod
    def widen(cls, value: Any) -> Any:
        """A path or a list of paths means `{terms: [...]}`."""
        return {"terms": value} if isinstance(value, str | list | tuple) else value

    @property
    def files(self) -> tuple[str, ...]:
        """The lists."""
        return (self.terms,) if isinstance(self.terms, str) else self.terms


class Data(Section):
    """The rows, and what happens to those that do not fit."""

    main: ClassVar[str] = "sources"

    sources: Annotated[tuple[Source, ...], Field(min_length=1, examples=["[tickets.jsonl]"])]
    """Files to read."""
    temperature: Annotated[float, Field(ge=1)] = 1.0
    """Evens out sources without a weight: their shares go as tokens^(1/temperature)."""
    clean: tuple[Annotated[Component, Of("stage")], ...] = ()
    """Stages that change or remove rows, in this order, before the rows are divided."""
    augment: tuple[Annotated[Component, Of("augmentation")], ...] = ()
    """Ways to make further training rows, each from the rows as they are after cleaning; held-out rows are never touched."""
    on_bad: Literal["error", "skip"] = "error"
    """error: stop and name each bad row; skip: leave bad rows out, counted and listed in dropped.jsonl."""
    too_long: Literal["error", "drop", "cut_prompt"] = "error"
    """A row longer than max_tokens: stop, drop it (counted), or cut the oldest part of its prompt; never its answer."""
    max_tokens: Positive | Auto = "auto"
    """Longest row in tokens; auto is the model's window, at most 2,048."""
    loss_on: Literal["answers", "last_answer", "all"] = "answers"
    """Which tokens are learnt: every assistant turn, only the last one, or prompts as well."""
    reasoning: Literal["all", "last", "none"] = "all"
    """Which assistant turns keep their reasoning text."""
    split: Split = Split()
    """Train, validation and test."""
    against: tuple[str, ...] = ()
    """Files of questions that will be measured on, e.g. [benchmark.jsonl]: rows equal to, nearly equal to, or holding one are found."""
    on_leak: Literal["error", "drop"] = "error"
    """Rows to be learnt that match a file of against or a row given for validation or test: stop (D151, D152, D153), or leave them out (counted, each with its twin in dropped.jsonl)."""
    bias: Bias = Bias()
    """Comparison of rows about groups of people."""
    max_line_mb: Annotated[float, Field(gt=0)] = 4.0
    """A longer line is refused."""

    @classmethod
    def widen(cls, value: Any) -> Any:
        """A path or a list of sources means `{sources: [...]}`."""
        if isinstance(value, str):
            return {"sources": (value,)}
        return {"sources": value} if isinstance(value, list | tuple) else value


Method = Annotated[Component, Of("method")]
Objective = Annotated[Component, Of("objective")]
Optimizer = Annotated[Component, Of("optimizer")]
Schedule = Annotated[Component, Of("schedule")]
Anchor = Annotated[Component, Of("anchor")]


class BatchSize(Options):
    """Size of one optimiser step; exactly one of the two. How it is cut into micro-batches never changes the gradient."""

    tokens: Positive | None = None
    """Tokens per optimiser step."""
    examples: Positive | None = None
    """Rows per optimiser step."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.tokens is None) == (self.examples is None):
            raise Rule("give either tokens or examples", "tokens")
        return self


class Validation(Options):
    """Validation during training."""

    every: Positive | Auto = "auto"
    """Optimiser steps between validations; auto is about twenty in the run, at least one an epoch."""
    rows: Positive | Auto = "auto"
    """Validation rows used each time; auto is all, at most 500 (a fixed sample)."""


class Stop(Options):
    """When to stop before the last step."""

    on: Annotated[Component, Of("metric", or_function=True, besides=("loss", "reward"), prefix="validation.")] = Field(
        default="loss", validate_default=True
    )
    """What steers: loss, perplexity, or any metric, with its options, then measured on 64 validation rows each time; reward for a policy that is rewarded."""
    patience: Annotated[int, Field(ge=0)] = 3
    """Validations without improvement before stopping; 0 never stops early."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """An improvement smaller than this does not count."""
    forgetting: Literal["note", "stop", "ignore"] = "note"
    """When general ability has fallen by more than evaluate.general.drop_at_most (0.05 where that is left out): say so, or stop."""


class Checkpoint(Options):
    """What is kept on disk to resume from."""

    every: Positive | Auto = "auto"
    """Optimiser steps between checkpoints; auto saves at each validation."""
    keep: Positive = 1
    """Newest checkpoints kept beside the best one."""


class Curriculum(Section):
    """Whether easier rows come first."""

    main: ClassVar[str] = "by"

    by: Annotated[str, Field(min_length=1)] = "none"
    """none; length (tokens); loss (the base model's, on what is learnt); or a column of numbers. Smaller comes first."""
    epochs: Positive = 1
    """So many epochs, from the first, go by it, in tenths that are shuffled; the others are shuffled whole."""


class Train(Options):
    """How the model is trained."""

    objective: Objective | Auto = "auto"
    """What is minimised, e.g. sft, classify or pretrain, with options; auto follows the task and the kind of model."""
    epochs: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Passes over the training rows; auto aims at about 600 steps in 3 to 20 epochs, with early stopping. Not together with steps."""
    steps: Positive | None = None
    """Optimiser steps instead of epochs."""
    batch: BatchSize | Auto = "auto"
    """Size of one optimiser step."""
    micro_batch_tokens: Positive | Auto = "auto"
    """Tokens per forward pass; auto fits the memory."""
    optimizer: Optimizer | Auto = "auto"
    """adamw, adam, sgd, adafactor, lion, muon or adamw8bit with options; auto is adamw."""
    schedule: Schedule = Field(default="cosine", validate_default=True)
    """Learning rate over time: constant, linear or cosine, with warm-up."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 does not clip."""
    start: Literal["previous", "base"] = "previous"
    """What a stage of a list begins with: the model that the one before has made, or the recipe's base, as for an adapter of its own."""
    anchor: Anchor | Literal["none"] = "none"
    """What holds the weights near their start, against forgetting: l2_start or ewc, with options."""
    curriculum: Curriculum = Curriculum()
    """The order of training rows."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]] = "none"
    """How much rows count in the loss by their label: balanced gives every label the same weight; or {label: weight}."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout inside the base model's own dropout layers during training."""
    neftune: Annotated[float, Field(ge=0)] = 0.0
    """Noise on the embeddings of training rows (NEFTune): its alpha, 5 to 15 in the paper; 0 is none."""
    vision: Literal["frozen", "trained"] = "frozen"
    """Of a vision-text base, whether the part that looks at pixels stays as it is or is trained as well."""
    gradient_checkpointing: bool | Auto = "auto"
    """Recompute activations to save memory; auto only when needed."""
    compile: bool | Auto = "auto"
    """Compile the layers; auto does not: it repays only in runs of hours."""
    kernels: Literal["native", "plain"] | Auto = "auto"
    """On a CPU: native uses Sartor's own small kernels, built once by the C++ compiler of this machine, plain PyTorch alone; auto is native where there is a compiler. On a GPU native uses those of liger-kernel, auto where it is installed."""
    tf32: bool = False
    """On a GPU, train with fp32 products in TF32: several times faster, factors rounded to 10 bits. It matters with base.dtype float32 alone."""
    parallel: Literal["auto", "none", "ddp", "fsdp2"] = "auto"
    """How several processes hold the weights: a copy on each (ddp) or shards (fsdp2); auto copies where memory allows; none is one process."""
    validation: Validation = Validation()
    """How often and on how much to validate."""
    stop: Stop = Stop()
    """Early stopping."""
    checkpoint: Checkpoint = Checkpoint()
    """Saving."""
    on_spike: Literal["stop", "skip"] = "stop"
    """A step with a non-finite loss or gradient: stop at the last good weights, or skip it (three in a row stop). A finite loss 6 sigma above the last 128 is noted with its rows, or skipped."""
    threads: Positive | Auto = "auto"
    """CPU threads; auto uses every core this process may use."""

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Self:
        if self.steps is not None and self.epochs != "auto":
            raise Rule("give epochs or steps, not both", "steps")
        return self


class Slice(Section):
    """A way to cut the test rows into parts."""

    main: ClassVar[str] = "field"

    field: Annotated[str, Field(min_length=1, examples=["queue"])]
    """A column of the rows, or length (of the prompt, in quarters), topic (words in common), label."""
    least: Annotated[int, Field(ge=2)] = 20
    """Rows below which a value is no slice of its own."""


class Retrieval(Options):
    """Texts found for each question and shown before it, by the words they share (BM25)."""

    documents: Annotated[str, Field(min_length=1, examples=["docs.jsonl"])] | None = None
    """File or glob of texts, or of rows with answers; left out, the training rows."""
    k: Positive = 3
    """Texts shown before each question, as far as the model's window holds them."""


class Rival(Options):
    """What the tuned model is compared with, beside its base; exactly one of model, predictions and retrieval."""

    model: Annotated[str, Field(min_length=1, examples=["runs/2026-01-01_orders_0a1b2c3d"])] | None = None
    """A run, a model or adapter folder, or a hub id; rendered by its own template."""
    predictions: Annotated[str, Field(min_length=1, examples=["answers.jsonl"])] | None = None
    """Answers of a system that is no folder: JSON lines with id or prompt, and prediction, one for each test row at least."""
    retrieval: Retrieval | None = None
    """The base with texts before the question."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$", examples=["last_year"])] | None = None
    """What it is called in tables and gates; the name of its folder or file by default."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(each is not None for each in (self.model, self.predictions, self.retrieval)) != 1:
            raise Rule("what the model is compared with is exactly one of model, predictions and retrieval", "model")
        return self

    @property
    def called(self) -> str:
        """Its name in tables and gates, and of its file."""
        if self.name is not None:
            return self.name
        if self.model is None and self.predictions is None:
            return "retrieval"
        parts = [
            part for part in re.split(r"[/\\]", self.model or self.predictions or "") if part not in ("", ".", "..")
        ]
        last = parts[-1] if parts else "other"
        if last == "model" and len(parts) > 1:
            last = parts[-2]
        if self.predictions is not None:
            last = last.rpartition(".")[0] or last
        return re.sub(r"[^\w.-]+", "-", last, flags=re.ASCII).strip("-._")[:64] or "other"


class General(Options):
    """What is asked to see whether the model forgets: questions with one right answer and wrong ones, which have nothing to do with the task."""

    data: Annotated[str, Field(min_length=1, examples=["builtin:general-probe"])] = "builtin:general-probe"
    """File, folder, glob or builtin:NAME of rows with answers; a column wrong lists wrong answers, else those to other rows are taken."""
    rows: Annotated[int, Field(ge=10)] | Auto = "auto"
    """Questions used, a fixed sample: a third of them during training, the others for the verdict; auto is all, at most 600."""
    drop_at_most: Annotated[float, Field(gt=0, le=1)] | None = None
    """By how much the score, between 0 and 1, may fall: a gate, and the bound by which the model is chosen."""
    steer: bool = True
    """Where there is a bound: take the checkpoint, or the point between base and tuned model, that is best in the task within it."""


class Human(Section):
    """People compare the answers blind once the run has ended; these are the defaults of `sartor human RUN`."""

    main: ClassVar[str] = "kind"

    kind: Literal["pairwise", "likert"] = "pairwise"
    """pairwise: which of two answers is better; likert: each answer on a scale from 1 to 5."""
    against: Annotated[str, Field(min_length=1, examples=["base"])] = "base"
    """What tuned is compared with: a name of evaluate.against."""
    questions: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", examples=["accuracy"])], ...] | Auto = (
        "auto"
    )
    """What is asked of each row: overall, accuracy, helpfulness, tone, or names of yours; auto is overall of pairs, the other three on a scale."""
    rows: Positive = 100
    """Test rows drawn; those with the same answer from both models are not asked in pairs."""
    reference: bool = False
    """Show raters the right answer too."""


class Evaluate(Options):
    """How base and tuned model are compared on the locked test set."""

    metrics: tuple[Metric, ...] | Auto = "auto"
    """Metrics by name, with options where they have some, or file.py:function; auto follows the task."""
    safety: Annotated[tuple[Annotated[Component, Of("safety")], ...], All("safety")] = ()
    """What the models may do to people, measured of base and tuned model: toxicity, bias ...; all is every one that needs no options."""
    judge: tuple[Annotated[Component, Of("judge")], ...] = ()
    """Models that judge the answers to the test rows."""
    benchmarks: tuple[Annotated[Component, Of("benchmark")], ...] = ()
    """Further rows and tests that base and tuned model are measured on."""
    general: General | Literal[False] | Auto = "auto"
    """General ability, in training and in the verdict: what is asked, and how much may be lost; auto asks the built-in questions of models that write text."""
    continual: bool | Auto = "auto"
    """After each stage of a list measure the tasks of all stages so far; auto does where several have data of their own and one objective."""
    slices: tuple[Slice, ...] = ()
    """Parts of the test rows that are told one by one: columns of the rows, length, topic, label."""
    human: Human | None = None
    """What people are asked about the answers once the run has ended; the run then says the command."""
    against: tuple[Literal["base", "few_shot", "retrieval"] | Rival, ...] = ("base", "few_shot")
    """What the tuned model is compared with on the same rows: its base, the base with examples, the base with texts found for
    each question, further models and answers of other systems."""
    shots: Annotated[int, Field(ge=0)] | Auto = "auto"
    """Examples in the few-shot prompt, taken from the training rows; auto is the number of 0, 1, 2, 3 and 5 that does best on validation rows, of those that fit."""
    max_new_tokens: Positive | Auto = "auto"
    """Longest generated answer; auto is 1.5 times the longest reference answer."""
    rows: Positive | Auto = "auto"
    """Test rows used; auto is all, at most 1,000 (a fixed sample, said in the report)."""
    batch: Positive | Auto = "auto"
    """Rows generated together."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the intervals."""
    resamples: Annotated[int, Field(ge=200)] = 2000
    """Bootstrap resamples, and exchanges of a permutation test."""
    test: Literal["bootstrap", "permutation"] = "bootstrap"
    """What gives the p-value of a difference where rows are not simply right or wrong; those are told by McNemar's test."""
    correction: Literal["holm", "benjamini_hochberg", "none"] = "holm"
    """How p-values allow for looking at several metrics and models: none is wrongly called better or worse (holm), or few of those that are (benjamini_hochberg)."""

    @property
    def probe(self) -> General | None:
        """What is asked of general ability; None where nothing is."""
        if self.general is False:
            return None
        return General() if self.general == "auto" else self.general

    @model_validator(mode="after")
    def _different_names(self) -> Self:
        names = [each if isinstance(each, str) else each.called for each in self.against]
        taken = {"tuned", "base", "few_shot"} & {each.called for each in self.against if not isinstance(each, str)}
        twice = sorted({name for name in names if names.count(name) > 1} | taken)
        if twice:
            raise Rule(
                f'two models would be called "{twice[0]}"; give one of them another name: {{model: PATH, name: other}}',
                "against",
            )
        return self

    @model_validator(mode="after")
    def _shown_to_people(self) -> Self:
        if self.human is not None and self.human.against not in self.names:
            raise Rule(f'human.against: "{self.human.against}" is not among evaluate.against', "human")
        return self

    @property
    def rivals(self) -> dict[str, Rival]:
        """What the tuned model is compared with beside base and few_shot, by name."""
        found = [Rival(retrieval=Retrieval()) if each == "retrieval" else each for each in self.against]
        return {each.called: each for each in found if isinstance(each, Rival)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all it is compared with, in the order of `against`."""
        return tuple(each if isinstance(each, str) else each.called for each in self.against)


class Recipe(Options):
    """Everything one run needs."""

    version: Literal[1] = 1
    """Version of this file format."""
    name: str | None = None
    """Name of the run folder; the recipe's file name by default."""
    seed: int = 17
    """Seed of every random stream: initial adapter weights, order of rows, dropout, sampling."""
    base: Annotated[Base, Field(examples=["sartor/nano"])]
    """The model to start from."""
    data: Annotated[Data, Field(examples=["tickets.jsonl"])]
    """The rows."""
    goal: Goal = Goal()
    """The purpose and the gates."""
    method: Method | Auto = "auto"
    """Which weights move, with options; auto is full for models under 50 million parameters, lora above."""
    train: Train = Field(default_factory=Train)
    """Training."""
    evaluate: Evaluate = Evaluate()
    """The verdict."""
    export: tuple[Annotated[Component, Of("exporter")], ...] = ()
    """Forms that the model is written in at the end, each with a certificate that is a gate: adapter, merged, int8, int4, gguf, onnx ..."""

    @property
    def largest_drop(self) -> float | None:
        """How much general ability may fall, by evaluate.general or a gate; None where nothing says so."""
        probe = self.evaluate.probe
        asked = [] if probe is None or probe.drop_at_most is None else [probe.drop_at_most]
        gates = [gate.drop_at_most for gate in self.goal.success if gate.metric == GENERAL]
        return min([*asked, *(bound for bound in gates if bound is not None)], default=None)

    @property
    def further_gates(self) -> tuple[Gate, ...]:
        """What is asked of the verdict outside of goal.success."""
        probe = self.evaluate.probe
        if probe is None or probe.drop_at_most is None or any(gate.metric == GENERAL for gate in self.goal.success):
            return ()
        return (Gate(metric=GENERAL, drop_at_most=probe.drop_at_most),)
