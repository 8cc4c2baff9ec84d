"""Makes an over-long conversation fit by giving up the oldest part of its prompt, never a part of an answer.

The newest exchanges that fit stay together. Older exchanges become a row of their own, with the system turn, so that
their answers are still learnt. Where a single exchange is too long, the beginning of its prompt goes, token by token.
Answers to compare keep one prompt: what the longest of them leaves no room for is cut for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sartor.data.rows import Example, Judged, Message, Preference, Ranking
from sartor.tokens.batch import Rendered
from sartor.tokens.candidates import with_prompt
from sartor.tokens.render import Renderer

_MARGIN = 2
Render = Callable[[tuple[Message, ...]], list[Rendered]]
"""All renderings of a row with these turns: of a conversation, or of the prompt of answers to compare."""


def within(rendered: Rendered, max_tokens: int) -> Rendered | None:
    """The row if it fits, after leaving out what follows its last supervised token; None if it does not."""
    if len(rendered) <= max_tokens:
        return rendered
    last = int(rendered.weight.nonzero()[0][-1]) + 1
    if last > max_tokens or rendered.images:
        return None
    return replace(rendered, ids=rendered.ids[:last], weight=rendered.weight[:last])


def shorten(row: Example, index: int, renderer: Renderer, max_tokens: int) -> list[Rendered] | None:
    """Renderings of the row that all fit and hold every supervised answer whole; None where an answer is too long.

    Raises:
        TokenError: a shortened conversation breaks the supervision contract.
    """

    def render(messages: tuple[Message, ...]) -> list[Rendered]:
        return renderer.render(replace(row, messages=messages), index)

    system, exchanges = _exchanges(row.messages)
    fitting: list[list[Rendered]] = []
    while exchanges:
        start, found = _fitting(render, renderer, max_tokens, system, exchanges)
        if found is None:
            return None
        fitting.append(found)
        exchanges = exchanges[:start]
        if renderer.loss_on == "last_answer":
            break
        if renderer.reasoning == "last":
            exchanges = [tuple(replace(turn, reasoning=None) for turn in exchange) for exchange in exchanges]
        if not any(turn.loss_weight for exchange in exchanges for turn in exchange):
            break
    return [rendered for part in reversed(fitting) for rendered in part]


def shorten_together(
    row: Preference | Judged | Ranking, index: int, renderer: Renderer, max_tokens: int
) -> list[Rendered] | None:
    """Renderings of every answer behind one shortened prompt; None where an answer is too long.

    Raises:
        TokenError: with the shortened prompt the row breaks the supervision contract.
    """

    def render(prompt: tuple[Message, ...]) -> list[Rendered]:
        return renderer.render(with_prompt(row, prompt), index)

    system, exchanges = _exchanges(row.prompt)
    return _fitting(render, renderer, max_tokens, system, exchanges)[1] if exchanges else None


def _exchanges(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """The leading system turns, and the rest in pieces that each begin with a user turn."""
    lead = next((place for place, turn in enumerate(messages) if turn.role != "system"), len(messages))
    pieces: list[tuple[Message, ...]] = []
    for turn in messages[lead:]:
        if turn.role == "user" or not pieces:
            pieces.append((turn,))
        else:
            pieces[-1] += (turn,)
    return messages[:lead], pieces


def _fitting(
    render: Render,
    renderer: Renderer,
    max_tokens: int,
    system: tuple[Message, ...],
    exchanges: list[tuple[Message, ...]],
) -> tuple[int, list[Rendered] | None]:
    """The longest run of last exchanges that fits, or the last one cut: where it starts, and its renderings."""
    start, found = _newest(render, max_tokens, system, exchanges)
    if found is None:
        return len(exchanges) - 1, _cut(render, renderer, max_tokens, system, exchanges[-1])
    return start, found


def _render(render: Render, max_tokens: int, messages: tuple[Message, ...]) -> list[Rendered] | None:
    kept = [within(rendered, max_tokens) for rendered in render(messages)]
    fitting = [rendered for rendered in kept if rendered is not None]
    return fitting if len(fitting) == len(kept) else None


def _newest(
    render: Render,
    max_tokens: int,
    system: tuple[Message, ...],
    exchanges: list[tuple[Message, ...]],
) -> tuple[int, list[Rendered] | None]:
    """The longest run of last exchanges that fits, by bisection: where it starts, and its renderings."""
    low, high = 0, len(exchanges)
    best: list[Rendered] | None = None
    while low < high:
        middle = (low + high) // 2
        messages = system + tuple(turn for exchange in exchanges[middle:] for turn in exchange)
        found = _render(render, max_tokens, messages)
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return low, best


def _cut(
    render: Render,
    renderer: Renderer,
    max_tokens: int,
    system: tuple[Message, ...],
    exchange: tuple[Message, ...],
) -> list[Rendered] | None:
    """One exchange with the beginning of its prompt texts cut, the first text first."""
    turns = list(exchange)
    for place, turn in enumerate(exchange):
        if turn.loss_weight or turn.role == "assistant":
            continue
        offsets = renderer.vocabulary.encodings([turn.content])[0].offsets
        gone = 0
        while gone < len(offsets) - 1:
            whole = render(system + tuple(turns))
            over = max(len(rendered) for rendered in whole) - max_tokens
            gone = min(gone + max(over, 0) + _MARGIN, len(offsets) - 1)
            turns[place] = replace(turn, content=turn.content[offsets[gone][0] :].lstrip() or turn.content[-1:])
            found = _render(render, max_tokens, system + tuple(turns))
            if found is not None:
                return found
    return None
