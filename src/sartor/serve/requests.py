"""What clients may send, as OpenAI's API writes it. A field that would not act is refused by name, never ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sartor.generate.sampling import Sampling
from sartor.options import Options

Name = Annotated[str, Field(max_length=256)]
Text = str | Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
Stop = str | Annotated[tuple[str, ...], Field(max_length=4)] | None
INERT: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": (None, []),
    "function_call": (None, "none"),
    "modalities": (None, ["text"]),
    "reasoning_effort": (None, "none"),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "store": (None, False),
    "service_tier": (None, "auto", "default"),
    "metadata": (None, {}),
}
"""Fields of the API with the values that change nothing; another value is refused, because it would not act."""


class Asked(Options):
    """What both kinds of requests have in common."""

    model: Name
    """The name it is served by."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of each answer, at most."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only the likeliest tokens that together reach this probability."""
    top_k: Annotated[int, Field(ge=0)] | None = None
    """Only this many likeliest tokens; 0: all."""
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    """Answers to the same prompt."""
    stop: Stop = None
    """Texts that end an answer and are no part of it."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Of the drawing; the same seed gives the same answer."""
    stream: bool | None = None
    """Send pieces as they come."""
    stream_options: StreamOptions | None = None
    """What else a stream holds."""
    user: Annotated[str, Field(max_length=512)] | None = None
    """Who asks, as the caller names them."""

    @model_validator(mode="before")
    @classmethod
    def _inert(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key, harmless in INERT.items():
            if key in value and value[key] not in harmless:
                raise ValueError(f"{key} does nothing here, so it is refused; leave it out")
        return {key: given for key, given in value.items() if key not in INERT}

    @property
    def sampling(self) -> Sampling:
        """As asked for; OpenAI's temperature is 1 where none is given."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return Sampling(temperature, self.top_k or 0, 1.0 if self.top_p is None else self.top_p)

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        given = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        return tuple(text for text in given if text)


class StreamOptions(Options):
    """What a stream holds beside its pieces."""

    include_usage: bool = False
    """A last piece with counts of tokens."""
    include_obfuscation: Literal[False] = False
    """There is none."""


class TextPart(Options):
    """A part of a message; only text is read."""

    type: Literal["text"]
    """Of the part."""
    text: str
    """What is said."""


class Turn(Options):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks."""
    content: str | tuple[TextPart, ...] | None
    """A text, or parts of one."""
    name: str | None = None
    """Of the speaker; it is not shown to the model."""
    refusal: None = None
    """As answers hold it."""

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        parts = value.get("content") if isinstance(value, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and part.get("type") != "text":
                raise ValueError(f"a part of type {part.get('type')} cannot be read, only text")
        return value

    @property
    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or ())


class Schema(Options):
    """The form an answer must have."""

    name: str = "answer"
    """Of the schema."""
    description: str | None = None
    """For people."""
    body: dict[str, Any] = Field(alias="schema")
    """JSON schema."""
    strict: bool | None = None
    """An answer is always valid, whatever this says."""


class Form(Options):
    """Plain text, any JSON object, or JSON by a schema."""

    type: Literal["text", "json_object", "json_schema"]
    """Which form."""
    json_schema: Schema | None = None
    """With type json_schema."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("type json_schema and the key json_schema belong together")
        return self

    @property
    def schema_text(self) -> str | None:
        """As JSON; None for plain text."""
        if self.type == "text":
            return None
        return json.dumps(self.json_schema.body if self.json_schema else {"type": "object"})


class ChatAsked(Asked):
    """POST /v1/chat/completions."""

    messages: Annotated[tuple[Turn, ...], Field(min_length=1, max_length=1000)]
    """The conversation."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """As max_tokens."""
    logprobs: bool | None = None
    """Tell the log-probability of each token."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """How many likely tokens are told beside each."""
    """How many likely tokens are told beside each."""
    response_format: Form | None = None
    """Text, or JSON by a schema."""

    @model_validator(mode="after")
    def _told(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class TextAsked(Asked):
    """POST /v1/completions: goes on with a text."""

    prompt: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    """One text, or several."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """How many likely tokens are told beside each."""

    @property
    def prompts(self) -> Sequence[str]:
        """One or several."""
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt


class VectorsAsked(Options):
    """POST /v1/embeddings."""

    model: Name
    """The name it is served by."""
    input: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=256)]
    """One text, or several."""
    encoding_format: Literal["float", "base64"] = "float"
    """Of the vectors."""
    user: str | None = None
    """Who asks."""


class LabelsAsked(Options):
    """POST /v1/classify: what a head says of texts, or of pairs of texts."""

    model: Name
    """The name it is served by."""
    input: str | Annotated[tuple[Text, ...], Field(min_length=1, max_length=256)]
    """One text or several; a pair of texts where numbers of pairs were learnt."""


class FeedbackAsked(Options):
    """POST /v1/feedback: what somebody says of an answer; one of the fields beside `id` at least."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    """Of the answer."""
    thumb: Literal["up", "down"] | None = None
    """Whether it was good."""
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    """How good it was."""
    correction: Annotated[str, Field(max_length=100_000)] | None = None
    """What it should have been."""
    comment: Annotated[str, Field(max_length=10_000)] | None = None
    """For people."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.thumb, self.score, self.correction, self.comment) == (None,) * 4:
            raise ValueError("one of thumb, score, correction, comment is needed")
        return self
