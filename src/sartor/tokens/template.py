"""Renders chat templates the way transformers does, in a sandbox with budgets.

A template is somebody else's program. The sandbox keeps it from reaching Python; the budgets keep it from eating the
machine: 4 MiB of output, a million steps of `range`, no multiplied or doubled strings beyond the same 4 MiB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from sartor.errors import Problem, TokenError

MAX_CHARACTERS = 4 << 20
MAX_STEPS = 1_000_000
AROUND = "images"
"""Where a turn for the template says how many images stand before its text, and how many behind it."""

PLAIN = (
    "{{- bos_token | default('') -}}\n"
    "{%- for message in messages -%}\n"
    "{%- set content = message.content -%}\n"
    "{%- if message.role == 'assistant' -%}\n"
    "{{- 'Assistant:\\n' + content + eos_token + '\\n' -}}\n"
    "{%- elif message.role == 'system' -%}\n"
    "{{- 'System: ' + content + '\\n' -}}\n"
    "{%- elif message.role == 'tool' -%}\n"
    "{{- 'Tool: ' + content + '\\n' -}}\n"
    "{%- else -%}\n"
    "{{- 'User: ' + content + '\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- 'Assistant:\\n' -}}\n"
    "{%- endif -%}\n"
)
"""For models without a template: `User: ...`, newline, `Assistant:`, newline, the answer, the end-of-text token.

It begins with the beginning-of-text token where the tokenizer has one, and needs an end-of-text token. The answer
starts on its own line, so that no token can straddle the prompt and the answer in the usual vocabularies.
"""

PAIRED = (
    "{{- bos_token | default('') -}}\n"
    "{%- for message in messages -%}\n"
    "{%- if message.role == 'assistant' -%}\n"
    "{{- eos_token + message.content + eos_token -}}\n"
    "{%- elif loop.first or messages[loop.index0 - 1].role == 'assistant' -%}\n"
    "{{- message.content -}}\n"
    "{%- else -%}\n"
    "{{- '\\n' + message.content -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- eos_token -}}\n"
    "{%- endif -%}\n"
)
"""For encoder-decoders without a template: what was said, as it is, the end-of-text token, the answer, the end-of-text token.

The encoder reads all before the answer and ends, as in its own training, with end-of-text; no token can straddle it.
"""


class Refused(Exception):
    """The template stopped: it does not accept these messages, or it broke, or it exceeded its budget."""


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja source.
        special_tokens: names and texts the template may use: bos_token, eos_token ...
        options: further variables, e.g. {"enable_thinking": False}.
        label: name for messages, e.g. the path of the file.
        lists: whether it takes the content of messages as lists of parts, as templates of vision-text models do.
        now: what `strftime_now` tells; one moment for all renderings, so that rows do not change at midnight.

    Raises:
        TokenError: T218, the source is not valid Jinja.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        options: Mapping[str, Any] | None = None,
        *,
        label: str = "chat template",
        lists: bool = False,
        now: datetime | None = None,
    ) -> None:
        self.source, self.label, self.lists = source, label, lists
        self.special_tokens, self.options = dict(special_tokens), dict(options or {})
        self._context = {**self.special_tokens, **self.options}
        try:
            self._template = _environment(now or datetime.now()).from_string(source)
            self._template.globals = dict(self._template.globals)
            self._context = {**self._template.globals, **self._context}
            self.literals = tuple(_literals(source))
        except (jinja2.TemplateSyntaxError, RecursionError) as fault:
            line = getattr(fault, "lineno", None)
            raise TokenError(
                Problem("T218", f"the chat template is not valid Jinja: {fault}", file=label, line=line)
            ) from fault

    @property
    def fingerprint(self) -> str:
        """sha256 of the source and of every variable it is given."""
        body = json.dumps(
            [self.source, self.special_tokens, self.options, *(["lists"] * self.lists)], sort_keys=True, default=str
        )
        return hashlib.sha256(body.encode()).hexdigest()

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), generation: bool
    ) -> str:
        """The text of a conversation; with `generation`, up to where the model's answer begins.

        Raises:
            Refused: the template stopped, with its own words.
        """
        pieces: list[str] = []
        room = MAX_CHARACTERS
        variables = {
            **self._context,
            "messages": [_with_thinking(_in_parts(message) if self.lists else message) for message in messages],
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": generation,
            "range": _StepBudget(MAX_STEPS).range,
        }
        try:
            for piece in self._template.root_render_func(self._template.new_context(variables, shared=True)):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    raise Refused("it writes more than 4 MiB for one conversation")
        except jinja2.TemplateError as fault:
            raise Refused(str(fault) or type(fault).__name__) from fault
        except _FAULTS as fault:
            raise Refused(f"{type(fault).__name__}: {fault}") from fault
        return "".join(pieces)


def _in_parts(turn: Mapping[str, Any]) -> dict[str, Any]:
    """The turn as templates of vision-text models take it: content as a list of images and texts."""
    before, behind = turn.get(AROUND, (0, 0))
    content = turn["content"]
    text = [{"type": "text", "text": content}] if content or not before + behind else []
    shown = [{"type": "image"}]
    return {**{key: turn[key] for key in turn if key != AROUND}, "content": shown * before + text + shown * behind}


def _with_thinking(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Some templates read reasoning under the name `thinking`."""
    if "reasoning_content" not in message or "thinking" in message:
        return message
    return {**message, "thinking": message["reasoning_content"]}


_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError, MemoryError)
"""What a template's own mistakes turn into: Jinja lets Python's errors through."""


class _GenerationTag(Extension):
    """`{% generation %} ... {% endgeneration %}` renders its body; the mask never depends on it."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _StepBudget:
    """Counts the numbers that all `range` calls of one rendering may hand out."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def range(self, *bounds: int) -> range:
        """Python's range, refused once the budget is spent."""
        steps = range(*bounds)
        self.left -= len(steps)
        if self.left < 0:
            raise Refused(f"it loops more than {MAX_STEPS:,} times")
        return steps


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with bounded multiplication and powers."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """`*` and `**` on numbers of ordinary size, `*` on short strings."""
        if operator == "**" and (abs(left) > 1e6 or abs(right) > 64):
            raise Refused("it computes a power that is too large")
        for text, count in ((left, right), (right, left)):
            if isinstance(text, str | list | tuple) and isinstance(count, int) and len(text) * count > MAX_CHARACTERS:
                raise Refused("it repeats a text beyond 4 MiB")
        return super().call_binop(context, operator, left, right)


class _Namespace(Namespace):
    """Jinja's namespace without underscore names, and without strings that grow past the output cap."""

    def __init__(*args: Any, **fields: Any) -> None:
        self, *given = args
        values = dict(*given, **fields)
        for name, value in values.items():
            _check_field(name, value)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_field(name, value)
        super().__setitem__(name, value)


def _check_field(name: Any, value: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")
    if isinstance(value, str | list) and len(value) > MAX_CHARACTERS:
        raise Refused("it builds a text beyond 4 MiB")


class _Dict:
    """`dict(...)` for templates, without the type's other attributes."""

    def __call__(self, *args: Any, **fields: Any) -> dict[Any, Any]:
        return dict(*args, **fields)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _environment(now: datetime) -> _Environment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=now.strftime, dict=_Dict(), namespace=_Namespace
    )
    return environment


def _literals(source: str) -> Iterator[str]:
    tree = _environment(datetime.now()).parse(source)
    for data in tree.find_all(nodes.TemplateData):
        yield data.data
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            yield constant.value
