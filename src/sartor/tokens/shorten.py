"""Makes an over-long conversation fit by giving up the oldest part of its prompt, never a part of an answer.

The newest exchanges that fit stay together. Older exchanges become a row of their own, with the system turn, so that
their answers are still learnt. Where a single exchange is too long, the beginning of its prompt goes, token by token.
"""

from __future__ import annotations

from dataclasses import replace

from sartor.data.rows import Example, Message
from sartor.tokens.batch import Rendered
from sartor.tokens.render import Renderer

_MARGIN = 2


def within(rendered: Rendered, max_tokens: int) -> Rendered | None:
    """The row if it fits, after leaving out what follows its last supervised token; None if it does not."""
    if len(rendered) <= max_tokens:
        return rendered
    last = int(rendered.weight.nonzero()[0][-1]) + 1
    if last > max_tokens:
        return None
    return replace(rendered, ids=rendered.ids[:last], weight=rendered.weight[:last])


def shorten(row: Example, index: int, renderer: Renderer, max_tokens: int) -> list[Rendered] | None:
    """Renderings of the row that all fit and hold every supervised answer whole; None where an answer is too long.

    Raises:
        TokenError: a shortened conversation breaks the supervision contract.
    """
    system, exchanges = _exchanges(row)
    fitting: list[list[Rendered]] = []
    while exchanges:
        start, found = _newest(row, index, renderer, max_tokens, system, exchanges)
        if found is None:
            start, found = len(exchanges) - 1, _cut(row, index, renderer, max_tokens, system, exchanges[-1])
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


def _exchanges(row: Example) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """The leading system turns, and the rest in pieces that each begin with a user turn."""
    lead = next((place for place, turn in enumerate(row.messages) if turn.role != "system"), len(row.messages))
    pieces: list[tuple[Message, ...]] = []
    for turn in row.messages[lead:]:
        if turn.role == "user" or not pieces:
            pieces.append((turn,))
        else:
            pieces[-1] += (turn,)
    return row.messages[:lead], pieces


def _render(
    row: Example, index: int, renderer: Renderer, max_tokens: int, messages: tuple[Message, ...]
) -> list[Rendered] | None:
    kept = [within(rendered, max_tokens) for rendered in renderer.render(replace(row, messages=messages), index)]
    fitting = [rendered for rendered in kept if rendered is not None]
    return fitting if len(fitting) == len(kept) else None


def _newest(
    row: Example,
    index: int,
    renderer: Renderer,
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
        found = _render(row, index, renderer, max_tokens, messages)
        if found is None:
            low = middle + 1
        else:
            best, high = found, middle
    return low, best


def _cut(
    row: Example,
    index: int,
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
            whole = renderer.render(replace(row, messages=system + tuple(turns)), index)
            over = max(len(rendered) for rendered in whole) - max_tokens
            gone = min(gone + max(over, 0) + _MARGIN, len(offsets) - 1)
            turns[place] = replace(turn, content=turn.content[offsets[gone][0] :].lstrip() or turn.content[-1:])
            found = _render(row, index, renderer, max_tokens, system + tuple(turns))
            if found is not None:
                return found
    return None
