"""Messages of a conversation: reading one, and what every conversation must satisfy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sartor.data.formats._fields import BadRow, kind, nearest
from sartor.data.formats._images import image_of
from sartor.data.rows import IMAGE, ROLES, Image, Message

_ALIASES = {"developer": "system", "function": "tool"}
_REASONING = ("reasoning_content", "reasoning", "thinking")
_ROLE_FIX = "roles are " + ", ".join(ROLES)
_TOOLS_FIX = 'a list of {"type": "function", "function": {"name": ..., "parameters": {...}}}'


def message(turn: Any, where: str) -> Message:
    """One turn in the OpenAI shape; `where` names it in messages. Raises BadRow D111, D141, D144."""
    if not isinstance(turn, Mapping):
        raise BadRow("D111", f"{where} is {kind(turn)} (an object with role and content needed)")
    role = _role(turn, where)
    calls = tool_calls(turn, where)
    content, images = turn.get("content"), tuple[Image, ...]()
    if type(content) is not str:
        content, images = ("", ()) if content is None and calls else _content(turn, where)
    if images and role == "assistant":
        raise BadRow(
            "D138", f"{where}, of the assistant, holds an image: answers are text", "put it into the user's turn"
        )
    if len(turn) == 2:
        return Message(role, content, images=images)
    return Message(
        role,
        content,
        reasoning=_first_text(turn, _REASONING, where),
        tool_calls=calls,
        tool_call_id=_first_text(turn, ("tool_call_id",), where),
        name=_first_text(turn, ("name",), where),
        weight=_weight(turn, where),
        images=images,
    )


def messages(turns: Any, where: str) -> tuple[Message, ...]:
    """A list of turns. Raises BadRow as `message` does, and D111 for what is no list of turns."""
    if not isinstance(turns, list):
        raise BadRow("D111", f'"{where}" is {kind(turns)} (a list of messages needed)')
    if not turns:
        raise BadRow("D111", f'"{where}" is an empty list')
    return tuple([message(turn, f"{where}[{index}]") for index, turn in enumerate(turns)])


def conversation(turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns, if something can be learnt from them. Raises BadRow D142, D143, D120, D121."""
    before, answers = "", 0
    for index, turn in enumerate(turns):
        if turn.role == "user":
            if before == "user":
                raise BadRow(
                    "D143",
                    f"two user turns in a row (turns {index} and {index + 1})",
                    "join them, or add the answer between them",
                )
            if not turn.content.strip():
                raise BadRow("D121", f"turn {index + 1}, of the user, is empty")
        elif turn.role == "assistant":
            answers += 1
            if not (turn.content.strip() or turn.tool_calls):
                raise BadRow("D120", "empty answer")
        before = turn.role
    if not answers:
        raise BadRow("D142", "no assistant turn", "add the answer that is to be learnt")
    return tuple(turns)


def role_unknown(role: str, known: Sequence[str], where: str) -> BadRow:
    """D141 with the role that was probably meant."""
    near = nearest(role.lower(), known)
    hint = f'; did you mean "{near}"?' if near else f" in {where}"
    return BadRow(
        "D141", f'unknown role "{role}"{hint}', _ROLE_FIX if known is ROLES else "roles are " + ", ".join(known)
    )


def tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Tool definitions from a list or its JSON text, bare functions wrapped. Raises BadRow D111."""
    if isinstance(value, str):
        value = parsed(value, '"tools"') if value.strip() else None
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise BadRow("D111", f'"tools" is {kind(value)} (a list of tools needed)', _TOOLS_FIX)
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in value)


def tool_calls(turn: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    """The calls of an assistant turn, their arguments as objects. Raises BadRow D111."""
    calls = turn.get("tool_calls")
    if calls is None and turn.get("function_call") is not None:
        calls = [{"function": turn["function_call"]}]
    if not calls:
        return ()
    if not isinstance(calls, list):
        raise BadRow("D111", f"{where}.tool_calls is {kind(calls)} (a list needed)")
    return tuple([call(entry, f"{where}.tool_calls[{index}]") for index, entry in enumerate(calls)])


def call(entry: Any, where: str) -> Mapping[str, Any]:
    """One tool call: ``{"type": "function", "function": {"name", "arguments": {...}}}``. Raises BadRow D111."""
    function = entry.get("function", entry) if isinstance(entry, Mapping) else entry
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRow("D111", f"{where} has no function name", 'write {"function": {"name": ..., "arguments": {...}}}')
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = parsed(arguments, f"{where}.arguments") if arguments.strip() else None
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise BadRow(
            "D111", f"{where}.arguments is {kind(arguments)} (an object needed)", "write the arguments as {name: value}"
        )
    made: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(entry.get("id"), str):
        made["id"] = entry["id"]
    return made


def parsed(text: str, where: str) -> Any:
    """A value written as JSON text inside a field. Raises BadRow D111."""
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as fault:
        raise BadRow("D111", f"{where} is text, but not JSON", "write it as an object") from fault


def _role(turn: Mapping[str, Any], where: str) -> str:
    role = turn.get("role")
    if role in ROLES:
        return str(role)
    if not isinstance(role, str):
        near = nearest("role", turn) if role is None else None
        state = f"is {kind(role)}" if "role" in turn else "is missing"
        raise BadRow("D111", f"{where}.role {state}" + (f'; is it "{near}"?' if near else ""), _ROLE_FIX)
    if role in _ALIASES:
        return _ALIASES[role]
    raise role_unknown(role, ROLES, where)


def _content(turn: Mapping[str, Any], where: str) -> tuple[str, tuple[Image, ...]]:
    """The parts of a text joined, and the images among them."""
    content = turn.get("content")
    if not isinstance(content, list):
        if "content" not in turn:
            near = nearest("content", turn)
            raise BadRow("D111", f"{where}.content is missing" + (f'; is it "{near}"?' if near else ""))
        raise BadRow("D111", f"{where}.content is {kind(content)}" + (" (text needed)" if content is not None else ""))
    texts: list[str] = []
    images: list[Image] = []
    for index, part in enumerate(content):
        part_kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif part_kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part_kind in ("image", "image_url"):
            texts.append(IMAGE)
            images.append(Image(image_of(part, f"{where}.content[{index}]")))
        elif isinstance(part_kind, str) and part_kind != "text":
            what = f'{where}.content[{index}] is of type "{part_kind[:40]}": only texts and images are read'
            raise BadRow("D144", what, "take the part out, or   data: {on_bad: skip}   to leave such rows out")
        else:
            raise BadRow("D111", f"{where}.content[{index}] is no text part", 'write {"type": "text", "text": ...}')
    return "".join(texts), tuple(images)


def _first_text(turn: Mapping[str, Any], keys: Sequence[str], where: str) -> str | None:
    for key in keys:
        found = turn.get(key)
        if found is not None and not isinstance(found, str):
            raise BadRow("D111", f"{where}.{key} is {kind(found)} (text needed)")
        if found:
            return found
    return None


def _weight(turn: Mapping[str, Any], where: str) -> float | None:
    weight, train = turn.get("weight"), turn.get("train")
    if train is not None and not isinstance(train, bool):
        raise BadRow("D111", f"{where}.train is {kind(train)} (true or false needed)", "write true or false")
    if weight is None:
        return None if train is None else float(train)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1e6:
        raise BadRow(
            "D111", f"{where}.weight is {kind(weight)} (0 or more needed)", "write a number, 1 is the usual weight"
        )
    if train is not None and train != bool(weight):
        raise BadRow("D111", f"{where} has weight {weight:g} and train {str(train).lower()}", "keep one of the two")
    return float(weight)


_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def human_assistant_turns(text: str) -> tuple[Message, ...] | None:
    r"""The turns of ``\n\nHuman: ...\n\nAssistant: ...`` text; None where the text does not begin so."""
    opening = _HH_TURN.match(text if text.startswith("\n\n") else "\n\n" + text)
    if not opening or opening.group(1) != "Human":
        return None
    _, *parts = _HH_TURN.split(text if text.startswith("\n\n") else "\n\n" + text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return tuple(Message(roles[name], said.strip()) for name, said in zip(parts[::2], parts[1::2], strict=True))
