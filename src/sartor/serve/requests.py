"""What clients may send, as OpenAI's API writes it. A field that would not act is refused by name, never ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sartor.generate.sampling import Sampling

Stop = str | Annotated[list[str], Field(max_length=4)] | None
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


class Asked(BaseModel):
    """What both kinds of requests have in common."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: Stop = None
    seed: Annotated[int, Field(ge=0)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

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
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)


class StreamOptions(BaseModel):
    """What a stream holds beside its pieces."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class TextPart(BaseModel):
    """A part of a message; only text is read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None
    name: str | None = None
    refusal: None = None

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


class Schema(BaseModel):
    """The form an answer must have."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    name: str = "answer"
    description: str | None = None
    body: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class Form(BaseModel):
    """Plain text, any JSON object, or JSON by a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None

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

    messages: Annotated[list[Turn], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Form | None = None

    @model_validator(mode="after")
    def _told(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class TextAsked(Asked):
    """POST /v1/completions: goes on with a text."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> Sequence[str]:
        """One or several."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class VectorsAsked(BaseModel):
    """POST /v1/embeddings."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=256)]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class LabelsAsked(BaseModel):
    """POST /v1/classify: what a head says of texts, or of pairs of texts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    input: (
        str
        | Annotated[
            list[str | Annotated[list[str], Field(min_length=1, max_length=2)]], Field(min_length=1, max_length=256)
        ]
    )
