"""Where a chat template puts each message, the end of each prompt and the end of each answer.

The template is asked, never parsed: the conversation is rendered once with a private sentinel in the place of every
text. What stands between the sentinels are the template's own *frames*; prompts and answers are found by comparing such
renderings as prefixes of one another. A layout depends only on the shape of a conversation (roles, which parts there
are, tools), so it is computed once per shape, and `fit` then proves for every row that the real rendering is exactly
frame, text, frame, text ... frame: nothing dropped, doubled, moved or cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.tokens.controls import MARKS
from sartor.tokens.template import ChatTemplate, Refused

Turns = Sequence[Mapping[str, Any]]
"""Messages as a chat template takes them."""
Slot = tuple[int, str]
"""Message index and part: "content" or "reasoning"."""
Place = tuple[int, int]
"""Frame index and offset in it."""

PARTS = {"content": "content", "reasoning": "reasoning_content"}
_SENTINEL = re.compile("\ue000([0-9]+)(content|reasoning)\ue001")
_TOOL = "\ue000tool\ue001"
_STRIPS = ("strip", "lstrip", "rstrip")


class Fault(Exception):
    """One row breaks the supervision contract."""

    def __init__(self, code: str, what: str, *, fix: str | None = None, excerpt: str | None = None) -> None:
        super().__init__(what)
        self.code, self.what, self.fix, self.excerpt = code, what, fix, excerpt


@dataclass(frozen=True, slots=True)
class Answer:
    """A supervised turn inside a layout."""

    message: int
    begin: Place
    """Where the prompt ends and inference would begin."""
    end: Place
    """Behind the end-of-turn token."""
    lead: str | None
    """What the template writes between `begin` and the first text of the answer."""
    segment: str | None
    """The template's text from its last control token to `begin`; None where a user's text comes in between."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The rendering of `messages[:count]` as frames around slots."""

    count: int
    frames: tuple[str, ...]
    slots: tuple[Slot, ...]
    answers: tuple[Answer, ...]

    def fit(self, text: str, turns: Turns) -> Fit:
        """Prove that `text` is these frames around the turns' texts.

        Raises:
            Fault: T215 with the difference.
        """
        values = [turns[message][PARTS[part]] for message, part in self.slots]
        pieces = [self.frames[0]]
        for value, frame in zip(values, self.frames[1:], strict=True):
            pieces += (value, frame)
        if "".join(pieces) != text:
            values = self._stripped(text, values)
        starts, place = [0], len(self.frames[0])
        spans = []
        for value, frame in zip(values, self.frames[1:], strict=True):
            spans.append((place, place + len(value)))
            place += len(value)
            starts.append(place)
            place += len(frame)
        return Fit(tuple(starts), tuple(spans))

    def _stripped(self, text: str, values: Sequence[str]) -> list[str]:
        """The values as the template shows them where it strips outer whitespace."""
        place = len(self.frames[0])
        shown: list[str] = []
        known = text.startswith(self.frames[0])
        for value, frame in zip(values, self.frames[1:], strict=True):
            fitting = (kept for kept in _strips(value) if text.startswith(kept + frame, place))
            kept = next(fitting, None) if known else None
            if kept is None:
                break
            shown.append(kept)
            place += len(kept) + len(frame)
        if len(shown) == len(values) and place == len(text):
            return shown
        raise self._mismatch(text, values, len(shown), place if known else 0)

    def _mismatch(self, text: str, values: Sequence[str], slot: int, place: int) -> Fault:
        """What differs at the first slot that does not fit, which begins at `place`."""
        fix = "give the text in the form the template expects, or set base.template to one that leaves it alone"
        if slot == len(values) or text.startswith(values[slot], place):
            expected = "".join(_interleave(self.frames, values))
            what = "what this row says changes what the chat template itself writes; lost is in [- -], added in {+ +}:"
            return Fault("T215", what, excerpt=difference(expected, text), fix=fix)
        message, part = self.slots[slot]
        behind = text.find(self.frames[slot + 1], place) if self.frames[slot + 1] else len(text)
        shown = text[place : behind if behind >= 0 else len(text)]
        what = f"the chat template does not show messages[{message}].{part} as it was written; lost is in [- -], added in {{+ +}}:"
        return Fault("T215", what, excerpt=difference(values[slot], shown), fix=fix)


@dataclass(frozen=True, slots=True)
class Fit:
    """Where the frames begin and the slots lie in one rendered text."""

    starts: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def at(self, place: Place) -> int:
        """Character offset of a place."""
        return self.starts[place[0]] + place[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """How conversations of one shape are rendered: one layout, or one per answer where prefixes are not stable."""

    layouts: tuple[Layout, ...]
    expanded: bool
    """Whether the template rewrites earlier turns, so that each answer has a rendering of its own."""


def shape(turns: Turns, tools: Sequence[Mapping[str, Any]], wanted: tuple[int, ...], thinks: bool) -> tuple[Any, ...]:
    """All that a layout depends on: equal shapes have equal layouts."""
    first: dict[tuple[str, str], int] = {}
    shapes: list[tuple[Any, ...]] = []
    for index, turn in enumerate(turns):
        role, content = turn["role"], turn["content"]
        slot = first.setdefault((role, content), index) if content.strip() else content
        if len(turn) == 2:
            shapes.append((role, slot))
            continue
        reasoning = turn.get(PARTS["reasoning"])
        shown = bool(reasoning.strip()) or reasoning if isinstance(reasoning, str) else reasoning
        shapes.append((role, slot, shown, json.dumps(_rest(turn))))
    return (wanted, thinks, json.dumps(tools) if tools else "", *shapes)


def ghosts(turns: Turns) -> list[Mapping[str, Any]]:
    """The turns with a sentinel for each text. Equal contents of one role share one, for templates that compare turns."""
    first: dict[tuple[str, str], int] = {}
    shown: list[Mapping[str, Any]] = []
    for index, turn in enumerate(turns):
        ghost = dict(turn)
        for part, key in PARTS.items():
            text = ghost.get(key)
            if isinstance(text, str) and text.strip():
                equal = first.setdefault((turn["role"], text), index) if part == "content" else index
                ghost[key] = _sentinel(equal, part)
        shown.append(ghost)
    return shown


def _rest(turn: Mapping[str, Any]) -> dict[str, Any]:
    """All but the texts that become slots."""
    return {key: entry for key, entry in turn.items() if key not in PARTS.values()}


def plan(
    template: ChatTemplate,
    control: re.Pattern[str],
    turns: Turns,
    tools: Sequence[Mapping[str, Any]],
    wanted: Sequence[int],
    *,
    thinks: bool,
) -> Plan:
    """Lay out a conversation whose turns `wanted` are supervised.

    Args:
        control: finds the control tokens the template may write.
        thinks: whether an answer without reasoning still begins at the generation prompt.

    Raises:
        Fault: T210, T211, T212, T215.
        Refused: the template does not accept these messages.
    """
    shown = ghosts(turns)
    whole = template.render(shown, tools=tools, generation=False)
    found = [_Through.of(template, control, shown, tools, index, thinks=thinks) for index in wanted]
    stable = all(whole.startswith(through.text[: through.end]) for through in found)
    if stable:
        layouts: tuple[Layout, ...] = (_layout(whole, shown, found, control),)
    else:
        layouts = tuple(_layout(through.text, shown[: through.message + 1], [through], control) for through in found)
    for layout in layouts:
        _check(layout, turns, tools, "".join(template.literals))
    return Plan(layouts, expanded=not stable)


def prompt(
    template: ChatTemplate,
    control: re.Pattern[str],
    history: Turns,
    tools: Sequence[Mapping[str, Any]],
    *,
    thinks: bool,
) -> str:
    """The text up to where an answer begins.

    With `thinks` this is the template's generation prompt, from where the model reasons as it likes. Otherwise it is all
    that the template writes before the first character of a plain answer, so that a scaffold such as an empty thinking
    block is given and not learnt; whitespace alone is left to the answer, where tokenizers expect it. With tools it is
    what a plain answer and a tool call have in common, so that the choice stays with the model.

    Raises:
        Refused: the template does not accept these messages.
        Fault: T215, the template drops the answer.
    """
    answer = {"role": "assistant", "content": _sentinel(len(history), "content")}
    if thinks:
        answer["reasoning_content"] = _sentinel(len(history), "reasoning")
    through = template.render([*history, answer], tools=tools, generation=False)
    head = _before_sentinel(through, len(history))
    generation = _generation_prompt(template, history, tools)
    if thinks:
        return generation if generation is not None and through.startswith(generation) else head
    if tools:
        head = _open_to_tools(template, control, history, tools, head)
    if generation is not None and head.startswith(generation) and not head[len(generation) :].strip():
        return generation
    return head.rstrip(" ")


def difference(expected: str, got: str, *, around: int = 24, longest: int = 60) -> str:
    """The first place where two texts part, as `...same[-lost-]{+added+}same...`."""
    head = alike(expected, got)
    room = min(len(expected), len(got)) - head
    tail = min(room, alike(expected[::-1], got[::-1]))
    lost, added = expected[head : len(expected) - tail], got[head : len(got) - tail]
    before, after = expected[max(0, head - around) : head], expected[len(expected) - tail :][:around]
    marked = (f"[-{_short(lost, longest)}-]" if lost else "") + (f"{{+{_short(added, longest)}+}}" if added else "")
    return json.dumps(f"...{before}{marked}{after}...", ensure_ascii=False)


def alike(one: str, other: str) -> int:
    """How many characters two texts share from the beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 2 :]}"


@dataclass(frozen=True, slots=True)
class _Through:
    """The conversation up to and including one supervised turn, with sentinels."""

    message: int
    text: str
    begin: int
    first: int | None
    end: int

    @classmethod
    def of(
        cls,
        template: ChatTemplate,
        control: re.Pattern[str],
        shown: Turns,
        tools: Sequence[Mapping[str, Any]],
        index: int,
        *,
        thinks: bool,
    ) -> _Through:
        turn = shown[index]
        text = template.render(shown[: index + 1], tools=tools, generation=False)
        own = [(found, slot[1]) for found, slot in _slots(text, shown[: index + 1]) if slot[0] == index]
        first, last = (own[0][0].start(), own[-1][0].end()) if own else (None, None)
        if turn["role"] == "assistant":
            reasons = thinks or "reasoning_content" in turn
            head = prompt(template, control, shown[:index], tools, thinks=reasons) if index else None
            begin = (first or 0) if head is None else len(head)
            if head is not None and not text.startswith(head):
                raise Fault(
                    "T211",
                    f"the chat template writes messages[{index}] (assistant) in a way that no prompt leads to:",
                    excerpt=difference(head, text[: len(head) + 40]),
                )
        else:
            begin = len(text) if first is None else first
        after = begin if last is None else last
        for part in PARTS:
            wanted = _SENTINEL.fullmatch(turn.get(PARTS[part]) or "")
            if wanted and not any(kind == part for _, kind in own):
                raise _dropped(index, str(turn["role"]), part, text)
        end = _end_of_turn(control, text, after, turn)
        if end is None and turn["role"] == "assistant":
            raise Fault(
                "T210",
                f"the rendered answer messages[{index}] does not end with an end-of-turn token; the model would never "
                "learn to stop.",
                excerpt=json.dumps(text[after:][:60], ensure_ascii=False),
                fix="set base.template to a template that ends each answer with a control token of this vocabulary",
            )
        return cls(index, text, begin, first, after if end is None else end)


def _end_of_turn(control: re.Pattern[str], text: str, after: int, turn: Mapping[str, Any]) -> int | None:
    """End of the first control token behind the content; behind tool calls, whose markup has its own, of the last."""
    ends = [found.end() for found in control.finditer(text, after)]
    if not ends:
        return None
    return ends[-1] if turn.get("tool_calls") else ends[0]


def _slots(text: str, shown: Turns) -> list[tuple[re.Match[str], Slot]]:
    """Each sentinel in a rendering and the text it stands for; of equal texts, the first stands for the first."""
    owners: dict[str, list[int]] = {}
    for index, ghost in enumerate(shown):
        for key in PARTS.values():
            if (sentinel := ghost.get(key)) and _SENTINEL.fullmatch(sentinel):
                owners.setdefault(sentinel, []).append(index)
    slots = []
    for found in _SENTINEL.finditer(text):
        mine = owners.get(found[0], [len(shown)])
        slots.append((found, (mine[0] if len(mine) == 1 else mine.pop(0), found[2])))
    return slots


def _layout(text: str, shown: Turns, answers: Sequence[_Through], control: re.Pattern[str]) -> Layout:
    frames, slots, bounds, last = [], [], [0], 0
    for found, slot in _slots(text, shown):
        frames.append(text[last : found.start()])
        slots.append(slot)
        bounds.append(found.end())
        last = found.end()
    frames.append(text[last:])
    placed = []
    for through in answers:
        begin = _place(bounds, through.begin)
        frame = frames[begin[0]][: begin[1]]
        tokens = list(control.finditer(frame))
        segment = frame[tokens[-1].start() :] if tokens else None
        lead = None if through.first is None else through.text[through.begin : through.first]
        placed.append(Answer(through.message, begin, _place(bounds, through.end), lead, segment))
    return Layout(len(shown), tuple(frames), tuple(slots), tuple(placed))


def _place(bounds: Sequence[int], offset: int) -> Place:
    frame = max(index for index, bound in enumerate(bounds) if bound <= offset)
    return frame, offset - bounds[frame]


def _check(layout: Layout, turns: Turns, tools: Sequence[Mapping[str, Any]], literals: str) -> None:
    """Every content once and in order, except for the system turn, which some templates move; every tool is shown."""
    shown = [message for message, part in layout.slots if part == "content"]
    text = "".join(layout.frames)
    for index, turn in enumerate(turns[: layout.count]):
        if turn["content"].strip() and shown.count(index) != 1:
            if shown.count(index) == 0:
                raise _dropped(index, str(turn["role"]), "content", text)
            raise Fault(
                "T215",
                f"the chat template writes messages[{index}].content ({turn['role']}) {shown.count(index)} times",
                fix="set base.template to a template that writes each message once",
            )
    rest = json.dumps([_rest(turn) for turn in turns[: layout.count]] + [list(tools)], ensure_ascii=False)
    if not set(MARKS.findall(rest)) <= set(text):
        raise Fault("T215", "the chat template drops or escapes a control token inside a tool or a tool call")
    order = [message for message in shown if turns[message]["role"] != "system"]
    if order != sorted(order):
        raise Fault("T215", "the chat template changes the order of the messages")
    names = [str(tool.get("function", tool).get("name", "")) for tool in tools]
    names += [str(call.get("function", call).get("name", "")) for turn in turns for call in turn.get("tool_calls", ())]
    missing = next((name for name in names if name and name not in text), None)
    if missing is not None:
        raise Fault(
            "T212",
            f'the chat template does not show the tool "{missing}"',
            fix="use a base model whose template takes tools, or leave the tools out",
        )


def _dropped(index: int, role: str, part: str, text: str) -> Fault:
    seen = json.dumps(_short(_SENTINEL.sub("\N{HORIZONTAL ELLIPSIS}", text), 120), ensure_ascii=False)
    if part == "reasoning":
        return Fault(
            "T215",
            f"the chat template drops messages[{index}].reasoning of a supervised answer; rendered:",
            excerpt=seen,
            fix="data.reasoning: none leaves reasoning out; base.template can name a template that shows it",
        )
    if role == "system":
        return Fault(
            "T212",
            "the system turn is dropped by this chat template; rendered:",
            excerpt=seen,
            fix="move its text into the first user turn, or set base.template",
        )
    return Fault(
        "T215",
        f"the chat template drops messages[{index}].content ({role}); rendered:",
        excerpt=seen,
        fix="set base.template to a template that writes every message",
    )


def _generation_prompt(template: ChatTemplate, history: Turns, tools: Sequence[Mapping[str, Any]]) -> str | None:
    if not history:
        return None
    try:
        return template.render(history, tools=tools, generation=True)
    except Refused:
        return None


def _open_to_tools(
    template: ChatTemplate, control: re.Pattern[str], history: Turns, tools: Sequence[Mapping[str, Any]], head: str
) -> str:
    call = {"type": "function", "id": "sartor000", "function": {"name": _TOOL, "arguments": {}}}
    try:
        calling = template.render(
            [*history, {"role": "assistant", "content": "", "tool_calls": [call]}], tools=tools, generation=False
        )
    except Refused:
        return head
    if _TOOL not in calling:
        return head
    common = head[: alike(head, calling)]
    inside = (found.start() for found in control.finditer(head) if found.start() < len(common) < found.end())
    return common[: next(inside, len(common))]


def _before_sentinel(text: str, message: int) -> str:
    for found in _SENTINEL.finditer(text):
        if int(found[1]) == message:
            return text[: found.start()]
    raise _dropped(message, "assistant", "content", text)


def _sentinel(message: int, part: str) -> str:
    return f"\ue000{message}{part}\ue001"


def _strips(value: str) -> Iterator[str]:
    yield value
    for characters in (None, "\n"):
        for strip in _STRIPS:
            yield getattr(value, strip)(characters)


def _interleave(frames: Sequence[str], values: Sequence[str]) -> Iterator[str]:
    yield frames[0]
    for value, frame in zip(values, frames[1:], strict=True):
        yield value
        yield frame
