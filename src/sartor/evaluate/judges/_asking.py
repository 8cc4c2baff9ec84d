"""Asks a judge, reads its replies, asks again where one cannot be read, and keeps every answer so that none is paid for twice."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sartor.data.answers import Answers
from sartor.errors import Problem, RecipeError
from sartor.generate.replies import objects
from sartor.models.catalog import resolve
from sartor.options import Options
from sartor.protocols import Speaker
from sartor.store import atomic

if TYPE_CHECKING:
    from sartor.evaluate.suites import Ground

State = Literal["told", "abstained", "unreadable"]
Read = Callable[[dict[str, Any]], "Said | None"]
"""What a JSON object of a reply says; None where it is none of what was asked for."""
MILLION = 1_000_000
PROMPTS = "prompts.json"


class Price(Options):
    """What the judge costs."""

    read: Annotated[float, Field(ge=0)] = 0.0
    """For a million tokens that it reads."""
    written: Annotated[float, Field(ge=0)] = 0.0
    """For a million tokens that it writes."""


class Judging(Options):
    """Which model judges, and how it is asked."""

    model: Annotated[str, Field(min_length=1, examples=["sartor/nano"])]
    """A model folder, a hub id or sartor/nano; with an endpoint, the name of the model there."""
    endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Base URL of an OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1."""
    key: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    """Name of the environment variable with the endpoint's key; never the key itself."""
    gold: Annotated[str, Field(min_length=1)] | None = None
    """File of judgements by people, which say how far the judge can be trusted and correct it."""
    rows: Annotated[int, Field(gt=0)] = 200
    """Test rows judged: those that people judged, and a fixed sample of the others."""
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    """Times that the judge is asked for a reply that can be read."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 512
    """Longest reply, which may begin with reasoning."""
    price: Price = Price()
    """What a million tokens of the judge cost, in your currency."""

    def speaker(self, form: str) -> Speaker:
        """The judge; an endpoint is held to a form where it can be."""
        return Speaker(self.model, "chat", self.endpoint, self.key, form if self.endpoint is not None else None)


@dataclass(frozen=True, slots=True)
class Said:
    """What one reply says: a score or a winner; None where the judge would not tell."""

    value: float | str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of one question."""

    value: float | str | None
    """None where it was not told."""
    state: State
    reason: str
    tries: int
    """0 where nobody had to be asked."""
    tokens: tuple[int, int] | None
    """Read and written in all tries, where the judge tells."""

    def json(self) -> dict[str, Any]:
        """An entry in the columns of an outcome."""
        return {
            "value": self.value,
            "state": self.state,
            "reason": self.reason,
            "tries": self.tries,
            "tokens": None if self.tokens is None else list(self.tokens),
        }


class Judge:
    """A judge with its kept answers.

    Args:
        options: whom to ask, and how.
        ground: opens the model.
        folder: where answers are kept.
    """

    def __init__(self, options: Judging, ground: Ground, folder: Path) -> None:
        self._options, self._seed = options, ground.seed
        self._answers = Answers(folder, ground.root, ground.models)

    def ask(self, questions: Sequence[str], form: str, read: Read) -> list[Judgement]:
        """[n] what the judge says. Raises ModelError where it cannot be reached."""
        options = self._options
        found: list[Judgement | None] = [None] * len(questions)
        costs: list[list[tuple[int, int] | None]] = [[] for _ in questions]
        left = list(range(len(questions)))
        for attempt in range(options.tries):
            replies = self._answers.told(
                options.speaker(form),
                [questions[place] for place in left],
                max_new_tokens=options.max_new_tokens,
                temperature=0.0 if attempt == 0 else 1.0,
                seed=self._seed + attempt,
            )
            for place, reply in zip(left, replies, strict=True):
                costs[place].append(reply.tokens)
                said = heard(reply.text, read)
                if said is not None:
                    state: State = "abstained" if said.value is None else "told"
                    found[place] = Judgement(said.value, state, said.reason, attempt + 1, _sum(costs[place]))
            left = [place for place in left if found[place] is None]
            if not left:
                break
        return [
            each or Judgement(None, "unreadable", "", options.tries, _sum(cost))
            for each, cost in zip(found, costs, strict=True)
        ]


def heard(reply: str, read: Read) -> Said | None:
    """What a reply says; None where it says nothing readable, or several things that differ."""
    said = [each for body in objects(reply) if (each := read(body)) is not None]
    return said[-1] if said and len({each.value for each in said}) == 1 else None


def reason_of(body: dict[str, Any]) -> str:
    """The reason in a reply, on one line."""
    reason = body.get("reason")
    return " ".join(reason.split()) if isinstance(reason, str) else ""


def check(options: Judging, ground: Ground) -> None:
    """Refuse a judge that cannot be asked, before anything is trained.

    Raises ModelError: no such model, or an endpoint without its key; RecipeError E171 for a key without an endpoint.
    """
    if options.endpoint is None:
        if options.key is not None:
            what = "a key is of no use without an endpoint"
            raise RecipeError(Problem("E171", what, fix="name the endpoint, or leave the key out"))
        resolve(options.model, ground.root)
    elif ground.models is not None:
        ground.models(options.speaker("{}"))


def family(model: str) -> str:
    """The first word of a model's name: qwen of Qwen/Qwen2.5-7B-Instruct."""
    found = re.match(r"[a-z]+", model.rstrip("/").rsplit("/", 1)[-1].lower())
    return found[0] if found else ""


def favours(options: Judging, judged: Sequence[str]) -> str:
    """A sentence where the judge may favour a model because it is one of its own; else nothing."""
    end = "and judges tend to favour what they would have said themselves."
    if options.model in judged:
        return f"The judge is, or began as, one of the models that it judges ({options.model}), {end}"
    near = next((name for name in judged if family(name) and family(name) == family(options.model)), None)
    return "" if near is None else f"The judge seems to be of the same family as {near}, {end}"


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """Where answers are kept; nowhere for long where there is no folder."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="sartor-judge-") as made:
        yield Path(made)


def write_prompts(folder: Path, options: Judging, prompts: Sequence[dict[str, Any]]) -> None:
    """Keep what the judge is told, word for word, beside its answers."""
    atomic.make_folder(folder)
    body = {"model": options.model, "endpoint": options.endpoint, "tries": options.tries, "prompts": list(prompts)}
    atomic.write_json(folder / PROMPTS, body)


def cost_cells(judgements: Sequence[dict[str, Any]], price: Price) -> tuple[int | None, int | None, float | None]:
    """Tokens read, written, and what they cost; None where the judge does not tell, or no price is given."""
    told = [each["tokens"] for each in judgements if each["tokens"] is not None]
    if not told:
        return None, None, None
    read, written = sum(pair[0] for pair in told), sum(pair[1] for pair in told)
    priced = price.read > 0 or price.written > 0
    return read, written, (read * price.read + written * price.written) / MILLION if priced else None


def counted(judgements: Sequence[dict[str, Any]]) -> tuple[int, int, int, int, int]:
    """Questions asked, those answered, abstained and unreadable, and those that had to be asked again."""
    states = [each["state"] for each in judgements if each["tries"]]
    again = sum(each["tries"] > 1 for each in judgements)
    return len(states), states.count("told"), states.count("abstained"), states.count("unreadable"), again


def _sum(costs: Sequence[tuple[int, int] | None]) -> tuple[int, int] | None:
    told = [cost for cost in costs if cost is not None]
    return (sum(cost[0] for cost in told), sum(cost[1] for cost in told)) if told else None
