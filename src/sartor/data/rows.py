"""What a data file is made of, before any token exists. One class per shape; each row knows where it came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain, zip_longest
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, Literal

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row was read: file, 1-based line (or record number, for formats without lines)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


IMAGE = "<image>"
"""Stands in a text for one of its images until the row is read; then the image's own mark does."""
MARK = re.compile("<image [0-9a-f]{4}(?:-[0-9a-f]{4}){7}>")
"""Finds marks of images."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a message shows, by its content."""

    file: str
    """As the data names it until the row is read, then its absolute path; no part of the row's identity."""
    digest: str = ""
    """sha256 of the file."""
    width: int = 0
    height: int = 0
    """Pixels."""

    @property
    def mark(self) -> str:
        """What stands for it in the text: other images make other texts, for whatever compares rows."""
        return f"<image {'-'.join(self.digest[at : at + 4] for at in range(0, 32, 4))}>"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `weight` scales its loss; None means 1 for assistant turns and 0 for others."""

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """OpenAI shape: {"type": "function", "function": {"name": ..., "arguments": {...}}}; arguments are an object."""
    tool_call_id: str | None = None
    name: str | None = None
    weight: float | None = None
    images: tuple[Image, ...] = ()
    """What the marks in `content` stand for, in their order."""

    @property
    def loss_weight(self) -> float:
        """The weight of this message's tokens in the loss."""
        return (1.0 if self.role == "assistant" else 0.0) if self.weight is None else self.weight

    @property
    def bare(self) -> bool:
        """Whether there is nothing but role and content to show."""
        plain = self.reasoning is None and not self.tool_calls and self.tool_call_id is None and self.name is None
        return plain and not self.images

    def _parts(self) -> list[dict[str, str]]:
        """Images and texts in order, as messages name them."""
        none: list[dict[str, str]] = []
        texts = [[{"type": "text", "text": text}] if text.strip() else none for text in MARK.split(self.content)]
        images = [[{"type": "image", "path": image.file}] for image in self.images]
        return [part for text, image in zip_longest(texts, images, fillvalue=none) for part in (*text, *image)]

    def changed(self, change: Callable[[str], str]) -> str:
        """The content with its text changed; the marks of images stay where they are."""
        if not self.images:
            return change(self.content)
        pieces = [change(piece) if piece.strip() else piece for piece in MARK.split(self.content)]
        return "".join(chain(*zip(pieces, (*MARK.findall(self.content), ""), strict=True)))

    def template(self) -> dict[str, Any]:
        """The dict a Hugging Face chat template expects; of a message with images, its content is a list of parts."""
        turn: dict[str, Any] = {"role": self.role, "content": self._parts() if self.images else self.content}
        if self.reasoning is not None:
            turn["reasoning_content"] = self.reasoning
        if self.tool_calls:
            turn["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            turn["name"] = self.name
        return turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What all rows share."""

    kind: ClassVar[str]
    origin: Origin
    id: str | None = None
    """The user's own id; `data/dataset.py` gives `file:line` where there is none."""
    parent: str | None = None
    """The id of the row that this one was made from; None for a row that was read."""
    group: str | None = None
    """Rows of one group never straddle the split."""
    stratum: str | None = None
    """The split keeps the share of each stratum; a label by default."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the record, for metrics and slices."""

    def prompt_text(self) -> str:
        """What goes in, as plain text: for near-duplicates, reports and slices."""
        raise NotImplementedError

    def answer_text(self) -> str:
        """What should come out, as plain text; empty for raw text."""
        raise NotImplementedError

    def content_hash(self) -> str:
        """sha256 of everything but the origin, the id and the parent: the identity of a row for splits and versions."""
        body = self.to_json()
        for key in ("origin", "id", "parent"):
            del body[key]
        without_images(body)
        return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `row_from_json` rebuilds the row. What the user wrote is shared, not copied."""
        kind = type(self)
        return {"kind": self.kind, **dict(zip(_FIELDS[kind], map(_plain, _VALUES[kind](self)), strict=True))}


def _plain(value: Any) -> Any:
    """Origins and messages as objects; everything else is plain already."""
    if isinstance(value, Message | Origin):
        kind = type(value)
        plain = dict(zip(_FIELDS[kind], _VALUES[kind](value), strict=True))
        if isinstance(value, Message) and value.images:
            plain["images"] = [asdict(image) for image in value.images]
        return plain
    if isinstance(value, tuple):
        return tuple([_plain(entry) for entry in value])
    return value


def without_images(body: Mapping[str, Any]) -> None:
    """Take out of the JSON object of a row where its images lie; their marks in the texts say which they are."""
    for name in _MESSAGE_FIELDS:
        for message in body.get(name, ()):
            message.pop("images", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(Row):
    """A conversation; the assistant turns are learnt."""

    kind: ClassVar[str] = "example"
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    label: str | None = None
    """Set for text+label rows: the last assistant turn is this label. Two turns of the user's are then two texts that it is of."""

    @property
    def paired(self) -> bool:
        """Whether it is a label of two texts."""
        return self.label is not None and [turn.role for turn in self.messages] == ["user", "user", "assistant"]

    def texts(self) -> tuple[str, ...]:
        """The text of the prompt, or both, in order."""
        if self.paired:
            return tuple([turn.content for turn in self.messages[:2]])
        return (self.prompt_text(),)

    def conversation(self) -> Example:
        """The same with both texts in one turn, as templates expect it: the user's, then the assistant's."""
        return replace(self, messages=(*self.prompt(), self.answer())) if self.paired else self

    def prompt(self) -> tuple[Message, ...]:
        """All turns before the last assistant turn; of two texts one turn, with an empty line between them."""
        if self.paired:
            return (Message("user", "\n\n".join(self.texts())),)
        return self.messages[: self._last()]

    def answer(self) -> Message:
        """The last assistant turn."""
        return self.messages[self._last()]

    def _last(self) -> int:
        for at in range(len(self.messages) - 1, -1, -1):
            if self.messages[at].role == "assistant":
                return at
        raise ValueError("no assistant turn")

    def prompt_text(self) -> str:
        return "\n".join(message.content for message in self.prompt())

    def answer_text(self) -> str:
        return self.answer().content


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Example):
    """One text, or two, with a number that is learnt; as a conversation the last turn says the number."""

    kind: ClassVar[str] = "scored"
    score: float

    def texts(self) -> tuple[str, ...]:
        """The text, or both, in order: each is a turn of the user."""
        return tuple([message.content for message in self.messages if message.role == "user"])

    def conversation(self) -> Example:
        """The same with both texts in one turn, as templates expect it: the user's, then the assistant's."""
        return replace(self, messages=(*self.prompt(), self.answer()))

    def prompt(self) -> tuple[Message, ...]:
        return (Message("user", "\n\n".join(self.texts())),)

    def prompt_text(self) -> str:
        return "\n\n".join(self.texts())


NO_LABEL = "none"
"""What a conversation says of a text without any label."""


def listed(labels: tuple[str, ...]) -> str:
    """Labels as an answer says them: "billing, urgent"."""
    return ", ".join(labels) or NO_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled(Example):
    """A text with any number of labels; as a conversation the last turn lists them."""

    kind: ClassVar[str] = "labelled"
    labels: tuple[str, ...]
    """Sorted, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged(Row):
    """Words with a tag each."""

    kind: ClassVar[str] = "tagged"
    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    def prompt_text(self) -> str:
        return " ".join(self.tokens)

    def answer_text(self) -> str:
        return " ".join(self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Row):
    """Raw text; every token is learnt."""

    kind: ClassVar[str] = "text"
    text: str

    def prompt_text(self) -> str:
        return self.text

    def answer_text(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Row):
    """A prompt with a better and a worse answer."""

    kind: ClassVar[str] = "preference"
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float | None = None
    """How much better the better one is, where that is known; 0 or more."""

    def prompt_text(self) -> str:
        return "\n".join(message.content for message in self.prompt)

    def answer_text(self) -> str:
        return "\n".join(message.content for message in self.chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Row):
    """A prompt with one answer that was liked or not (KTO)."""

    kind: ClassVar[str] = "judged"
    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    liked: bool

    def prompt_text(self) -> str:
        return "\n".join(message.content for message in self.prompt)

    def answer_text(self) -> str:
        return "\n".join(message.content for message in self.completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking(Row):
    """A prompt with several answers, and how good each is."""

    kind: ClassVar[str] = "ranking"
    prompt: tuple[Message, ...]
    answers: tuple[tuple[Message, ...], ...]
    scores: tuple[float, ...]
    """One for each answer, higher is better, equal for equally good ones; minus the rank where only ranks are known."""

    def prompt_text(self) -> str:
        return "\n".join(message.content for message in self.prompt)

    def answer_text(self) -> str:
        return "\n".join(message.content for message in self.answers[self.scores.index(max(self.scores))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Row):
    """What a model is asked, without an answer: it writes its own, and is rewarded for it."""

    kind: ClassVar[str] = "prompt"
    messages: tuple[Message, ...]
    """The last turn is the user's, or a tool's"""
    tools: tuple[Mapping[str, Any], ...] = ()

    def conversation(self) -> Example:
        """The same with an empty answer, for what asks a model and takes whole conversations."""
        given = {each.name: getattr(self, each.name) for each in fields(Row)}
        return Example(**given, messages=(*self.messages, Message("assistant", "")), tools=self.tools)

    def prompt_text(self) -> str:
        return "\n".join(message.content for message in self.messages)

    def answer_text(self) -> str:
        return ""


KINDS: dict[str, type[Row]] = {
    kind.kind: kind for kind in (Example, Text, Preference, Judged, Ranking, Scored, Labelled, Tagged, Prompt)
}
COMPARED: frozenset[str] = frozenset({Preference.kind, Judged.kind, Ranking.kind})
"""Kinds of rows that hold answers and how good they are."""
_FIELDS: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(each.name for each in fields(kind) if each.name != "images")
    for kind in (Origin, Message, *KINDS.values())
}
_VALUES: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*names) for kind, names in _FIELDS.items()
}
_TURN = itemgetter(*_FIELDS[Message])
_MESSAGE_FIELDS = ("messages", "prompt", "chosen", "rejected", "completion")


def row_from_json(body: Mapping[str, Any]) -> Row:
    """The inverse of `Row.to_json`."""
    given = dict(body)
    kind = KINDS[given.pop("kind")]
    given["origin"] = Origin(**given["origin"])
    for name in _MESSAGE_FIELDS:
        if name in given:
            given[name] = tuple([_message(message) for message in given[name]])
    if "answers" in given:
        given["answers"] = tuple([tuple(map(_message, turns)) for turns in given["answers"]])
        given["scores"] = tuple(given["scores"])
    for name in ("tools", "labels", "tokens", "tags"):
        if name in given:
            given[name] = tuple(given[name])
    return kind(**given)


def _message(body: Mapping[str, Any]) -> Message:
    role, content, reasoning, calls, call_id, name, weight = _TURN(body)
    images = tuple([Image(**image) for image in body.get("images", ())])
    return Message(role, content, reasoning, tuple(calls), call_id, name, weight, images)
