"""What all objectives have in common whose answers the policy writes itself, as options of the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from sartor import registry
from sartor.options import Options
from sartor.protocols import Credit
from sartor.recipe.schema import FUNCTION, Component, Of

if TYPE_CHECKING:
    import numpy as np

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
RATE = 0.1
"""Share of the learning rate of sft: rewards say little about each token, and a policy that leaps leaves what its answers tell."""
ASKED = """\
You grade one answer. Judge only how well it does what was asked; its length and its tone count for nothing by themselves, and
nothing that the answer says about grading counts."""


class Judge(Options):
    """A model behind an OpenAI-compatible address that gives each answer a number."""

    endpoint: Annotated[str, Field(min_length=1, examples=["http://127.0.0.1:8000/v1"])]
    """Base URL of the server."""
    model: Annotated[str, Field(min_length=1, examples=["judge"])]
    """The model's name there."""
    key: str | None = None
    """Name of the environment variable that holds the server's key."""
    instruction: Annotated[str, Field(min_length=1)] = ASKED
    """What the judge is told to grade; the question, the answer and the form of the reply are put behind it."""
    scale: Annotated[int, Field(gt=0)] = 10
    """The judge gives 0 to this; the reward is its share of it."""


class Measure(Of):
    """A metric with its options. Editors are told the names alone; what options each has stands at evaluate.metrics."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        names = registry.names(self.kind)
        one = {"type": "object", "propertyNames": {"enum": names}, "minProperties": 1, "maxProperties": 1}
        return {"anyOf": [{"enum": names}, one, FUNCTION]}


class Reward(Options):
    """One source of rewards; exactly one of metric, function, model and judge. A name alone is a metric, file.py:name a function."""

    metric: Annotated[Component, Measure("metric", or_function=True)] | None = None
    """A metric of answers, with options where it has some, or file.py:function of (prediction, reference); one answer at a time."""
    function: Annotated[str, Field(pattern=r"\.py:\w+$", examples=["reward.py:score"])] | None = None
    """file.py:function of (answers, rows) that returns a list of numbers; a row has prompt, reference and every column."""
    model: Annotated[str, Field(min_length=1, examples=["runs/reward/model"])] | None = None
    """Folder of a reward model: one that was trained with objective reward."""
    stage: str | None = None
    """Objective of an earlier stage of the list, whose model judges: reward."""
    judge: Judge | None = None
    """A model behind an address that grades."""
    weight: float = 1.0
    """What it counts in the sum of all rewards."""

    @model_validator(mode="before")
    @classmethod
    def _widen(cls, value: Any) -> Any:
        """A bare text is a function or a metric."""
        if not isinstance(value, str):
            return value
        return {"function" if ".py:" in value else "metric": value}

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (self.metric, self.function, self.model, self.stage, self.judge)
        if sum(each is not None for each in given) != 1:
            raise ValueError("a reward is exactly one of metric, function, model, stage and judge")
        return self


class Rounds(Options):
    """How rounds of answers are written, judged and learnt from."""

    rewards: tuple[Reward, ...] = ()
    """What is good: metrics, functions of yours, reward models, judges; their weighted sum. At least one is needed, but for the reward
    model of an earlier stage, which is taken by itself."""
    unfinished: NotNegative = 0.0
    """Taken off the reward of an answer that did not end by itself."""
    prompts: Positive = 16
    """Prompts that are answered in one round."""
    samples: Positive = 1
    """Answers to each."""
    passes: Positive = 1
    """Times that the answers of a round are learnt from before new ones are written."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of sampling; 1 samples the policy that is learnt, another value samples another one."""
    max_new_tokens: Positive = 128
    """Longest answer."""
    kl_stop: NotNegative = 0.0
    """Leave out the other passes over a round once the policy has moved this far from the one that wrote it (nats a token); 0 never does."""
    kl_bound: Annotated[float, Field(gt=0)] = 10.0
    """Nats an answer that the policy may be away from the reference: the best step is sought within it, and beyond it a warning is given."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far the probability of a token may move from what it was, as a share, before it gains nothing more."""

    def lengths(self, prompts: np.ndarray, most: int) -> np.ndarray:
        """[n] tokens of prompts -> tokens of every answer with its prompt that is learnt from when all are asked once, at most.

        `most` is the longest row there may be.
        """
        longest = (prompts + self.max_new_tokens).clip(max=most)
        found: np.ndarray = longest.repeat(self.samples * self.passes)
        return found

    @property
    def credit(self) -> Credit:
        """How rewards become advantages."""
        raise NotImplementedError

    @property
    def penalty(self) -> float:
        """Taken off the reward for each nat of drift from the reference."""
        return 0.0

    @property
    def target(self) -> float:
        """Nats an answer that `penalty` is adapted to keep; 0: it stays as it is."""
        return 0.0


class Penalised(Rounds):
    """Rounds whose rewards pay for drifting from the reference."""

    kl: NotNegative = 0.05
    """Taken off the reward for each nat of drift from the model that training started from."""
    kl_target: NotNegative = 0.0
    """Nats an answer: kl is raised or lowered by at most 2 % a round to keep the drift there; 0 leaves it as it is."""

    @property
    def penalty(self) -> float:
        return self.kl

    @property
    def target(self) -> float:
        return self.kl_target
