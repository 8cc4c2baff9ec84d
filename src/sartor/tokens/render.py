"""The one place where a row becomes token ids and loss weights, and a prompt becomes what the model sees.

The supervised text of an answer is what the user wrote (with its reasoning and tool calls) plus the end-of-turn token.
Prompts are found by comparing renderings as prefixes (`layout.py`), never by markers. Ids are those of the tokenizer on
the whole rendered text; where a token would straddle the end of a prompt, prompt and answer are encoded apart, as
inference sees them. `Renderer.prompt` gives exactly the ids that stand before the answer in training.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sartor.data.rows import Example, Message, Row, Text
from sartor.errors import Problem, TokenError
from sartor.tokens.batch import Rendered
from sartor.tokens.controls import MARKS, Controls, any_of
from sartor.tokens.layout import PARTS, Answer, Fault, Fit, Layout, Plan, Turns, alike, difference, plan, prompt, shape
from sartor.tokens.template import PLAIN, ChatTemplate, Refused
from sartor.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Encoding

LossOn = Literal["answers", "last_answer", "all"]
Reasoning = Literal["all", "last", "none"]
Ids = list[int]
Offsets = list[tuple[int, int]]
Encode = Callable[[str], tuple[Ids, Offsets]]

_PLANS_KEPT = 1024
_ANCHORS = ("\n", ".", "a", "1")


@dataclass(frozen=True, slots=True)
class Notes:
    """What was noticed while one row was rendered; counts."""

    expanded: bool = False
    """The template rewrites earlier turns: one rendering per answer."""
    controls: tuple[str, ...] = ()
    """Control tokens found in the user's text, encoded as text."""
    stripped: int = 0
    """Messages whose outer whitespace the template removed."""
    altered: int = 0
    """Answers that read differently after the tokenizer's own normalisation."""
    unknown: int = 0
    """Supervised tokens that stand for characters the vocabulary does not have."""
    apart: int = 0
    """Answers encoded apart from their prompt because a token would have straddled the two."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row, rendered and proven."""

    rendered: list[Rendered]
    notes: Notes


@dataclass(frozen=True, slots=True)
class _Span:
    """A supervised answer in a rendered text."""

    begin: int
    end: int
    weight: float
    segment: str | None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A rendered text that waits for its ids. Offsets count the characters of `text`, marks as one character each."""

    text: str
    marked: bool
    spans: tuple[_Span, ...]
    base: tuple[int, int, float] | None
    """Where and with which weight everything else counts (loss_on: all)."""
    scaled: tuple[tuple[int, int, float], ...]
    """Texts of other messages with a weight of their own."""


class Renderer:
    """Rows to ids and weights, prompts to ids, ids to text, for one vocabulary and one template.

    Args:
        vocabulary: the model's vocabulary.
        template: its chat template; `template.PLAIN` for a model without one.
        loss_on: which turns are learnt.
        reasoning: which assistant turns keep their reasoning.
        thinks: whether the model is to decide by itself how it begins an answer, as it must where rows hold reasoning:
            prompts then end at the generation prompt. Otherwise an empty thinking block and the like belong to the
            prompt. A row with reasoning always begins at the generation prompt.

    Raises:
        TokenError: T210, the template needs an end-of-text token that the vocabulary does not have; T217.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        *,
        loss_on: LossOn = "answers",
        reasoning: Reasoning = "all",
        thinks: bool = False,
    ) -> None:
        self.vocabulary, self.template = vocabulary, template
        self.loss_on, self.reasoning, self.thinks = loss_on, reasoning, thinks
        if template.source == PLAIN and "eos_token" not in vocabulary.named:
            raise TokenError(
                Problem(
                    "T210",
                    "the plain template ends each answer with the end-of-text token, which this vocabulary does not have",
                    file=template.label,
                    fix="name eos_token in tokenizer_config.json, or set base.template",
                )
            )
        special = vocabulary.special_tokens
        in_template = "\0".join(template.literals)
        framing = [text for text in vocabulary.added if text in special or (not text.isspace() and text in in_template)]
        self._controls = Controls(vocabulary, framing)
        self._special = any_of(tuple(special))
        self._plans: OrderedDict[tuple[Any, ...], Plan | Fault | Refused] = OrderedDict()
        self._segments: dict[str, Ids] = {}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides ids and weights."""
        parts = [self.vocabulary.fingerprint, self.template.fingerprint, self.loss_on, self.reasoning, self.thinks]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: the template's end-of-turn tokens and the vocabulary's end-of-text token."""
        texts = [self._closing]
        call = {"type": "function", "id": "sartor000", "function": {"name": "lookup", "arguments": {"key": "value"}}}
        turns: Turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        try:
            layout = self._plan(turns, (), (1,)).layouts[0]
            texts.append(_between(layout, layout.answers[0]))
        except (Fault, Refused):
            pass
        ends = [found[-1] for text in texts if (found := self._special.findall(text))]
        ids = {self.vocabulary.special_tokens[text] for text in ends}
        eos = self.vocabulary.eos_id
        return frozenset(ids if eos is None else {*ids, eos})

    def render(self, row: Row, index: int) -> list[Rendered]:
        """Ids and weights of one row, proven.

        Raises:
            TokenError: the row breaks the supervision contract.
        """
        (tokens,) = self.render_many([(index, row)])
        if isinstance(tokens, Problem):
            raise TokenError(tokens)
        return tokens.rendered

    def render_many(self, rows: Sequence[tuple[int, Row]]) -> list[Tokens | Problem]:
        """`render` for many rows at once; a row that breaks the contract becomes the problem that says so."""
        made = [self._draft(row) for _, row in rows]
        drafts = [draft for entry in made if not isinstance(entry, Problem) for draft in entry[0]]
        encoded = iter(self.vocabulary.encodings(["" if draft.marked else draft.text for draft in drafts]))
        results: list[Tokens | Problem] = []
        for (index, row), entry in zip(rows, made, strict=True):
            if isinstance(entry, Problem):
                results.append(entry)
                continue
            own = [(draft, next(encoded)) for draft in entry[0]]
            try:
                weighed = [self._weigh(draft, encoding, index) for draft, encoding in own]
            except (Fault, TokenError) as fault:
                results.append(_problem(fault, row))
                continue
            results.append(Tokens([one for one, _ in weighed], _add(entry[1], [seen for _, seen in weighed])))
        return results

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> np.ndarray:
        """[L] int32, the ids up to where the answer begins.

        Raises:
            TokenError: T217, the template does not accept these messages.
        """
        turns = self._turns(messages, last=len(messages))
        shown = self._tools(tools)
        try:
            text = self._prompt_text(turns, shown)
        except (Refused, Fault) as fault:
            raise TokenError(_problem(fault, None)) from fault
        marked = MARKS.search(json.dumps([turns, shown], ensure_ascii=False))
        ids = self._controls.encode_marked(text)[0] if marked else self._encode(text)[0]
        return np.asarray(ids, dtype=np.int32)

    def _prompt_text(self, turns: Turns, tools: Sequence[Mapping[str, Any]]) -> str:
        """The same layout as in training, so the same text; found directly where a text sways the template."""
        answer = {"role": "assistant", "content": "."} | ({"reasoning_content": "."} if self.thinks else {})
        asked = [*turns, answer]
        try:
            layout = self._plan(asked, tools, (len(turns),)).layouts[0]
            text = self.template.render(asked, tools=tools, generation=False)
            return text[: layout.fit(text, asked).at(layout.answers[0].begin)]
        except Fault:
            return prompt(self.template, self._controls.pattern, turns, tools, thinks=self.thinks)

    def completion(self, text: str) -> Ids:
        """Ids of an answer with its end-of-turn, as they follow a prompt."""
        layout = self._canonical
        answer = layout.answers[0]
        segment = answer.segment if answer.segment is not None else layout.frames[answer.begin[0]][: answer.begin[1]]
        marked = self._controls.mark(text, self._special)
        encode: Encode = self._controls.encode_marked if marked != text else self._encode
        tail = (answer.lead or "") + marked + self._closing
        ids, offsets = encode(segment + tail)
        before = self._segment(segment)
        cut = len(before)
        if ids[:cut] == before and cut < len(ids) and offsets[cut][0] >= len(segment):
            return ids[cut:]
        return self._continue(tail, encode)[0]

    def text(self, ids: Sequence[int]) -> str:
        """What a person reads of generated ids: without end-of-turn, without the template's whitespace before an answer."""
        kept = list(ids)
        for place, index in enumerate(kept):
            if int(index) in self.stop_ids:
                kept = kept[:place]
                break
        before, after = self._around
        return self._decode([kept])[0].removeprefix(before).removesuffix(after)

    @cached_property
    def _around(self) -> tuple[str, str]:
        """Whitespace that template and tokenizer put before an answer, and between it and its end-of-turn."""
        ids = self.completion("x")
        ended = next((place for place, index in enumerate(ids) if index in self.stop_ids), len(ids))
        before, _, after = self._decode([ids[:ended]])[0].partition("x")
        return before if before.isspace() else "", after

    @cached_property
    def _canonical(self) -> Layout:
        """The layout of one question and one answer."""
        turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": "."}]
        try:
            return self._plan(turns, (), (1,)).layouts[0]
        except (Fault, Refused) as fault:
            raise TokenError(_problem(fault, None, file=self.template.label)) from fault

    @cached_property
    def _closing(self) -> str:
        """The end-of-turn of a plain answer."""
        return _between(self._canonical, self._canonical.answers[0])

    # from rows to rendered texts

    def _draft(self, row: Row) -> tuple[list[_Draft], Notes] | Problem:
        try:
            if isinstance(row, Text):
                return self._draft_text(row)
            if isinstance(row, Example):
                return self._draft_chat(row)
        except (Fault, Refused, TokenError) as fault:
            return _problem(fault, row)
        raise TypeError(f"rows of kind {row.kind} are not rendered one by one")

    def _draft_text(self, row: Text) -> tuple[list[_Draft], Notes]:
        bos, eos = (self.vocabulary.named.get(name, "") for name in ("bos_token", "eos_token"))
        body = self._controls.mark(row.text, self._special)
        text = bos + body + eos
        found = tuple(self._special.findall(row.text)) if body is not row.text else ()
        return [_Draft(text, bool(found), (), (0, len(text), 1.0), ())], Notes(controls=found)

    def _draft_chat(self, row: Example) -> tuple[list[_Draft], Notes]:
        assistants = [index for index, message in enumerate(row.messages) if message.role == "assistant"]
        if not assistants:
            raise Fault("T201", "the row has no assistant turn, so there is nothing to learn")
        turns = self._turns(row.messages, last=assistants[-1])
        wanted = self._wanted(row.messages, assistants[-1])
        if not wanted and self.loss_on != "all":
            raise Fault(
                "T201",
                "no token of this row is trained: every turn that data.loss_on selects has weight 0",
                fix="give an answer a weight above 0, or leave the row out",
            )
        tools = self._tools(row.tools)
        found = self._found(row.messages, row.tools)
        laid = self._plan(turns, tools, wanted)
        drafts: list[_Draft] = []
        stripped, before = 0, ""
        for layout in laid.layouts:
            text = self.template.render(turns[: layout.count], tools=tools, generation=False)
            fit = layout.fit(text, turns)
            stripped = max(stripped, _stripped(layout, fit, turns))
            spans = tuple(_span(answer, fit, row.messages) for answer in layout.answers)
            everything = self.loss_on == "all"
            base = (alike(before, text), len(text), 1.0) if everything else None
            scaled = _scaled(layout, fit, row.messages) if everything else ()
            drafts.append(_Draft(text, bool(found), spans, base, scaled))
            before = text
        return drafts, Notes(expanded=laid.expanded, controls=found, stripped=stripped)

    def _wanted(self, messages: Sequence[Message], last: int) -> tuple[int, ...]:
        if self.loss_on == "last_answer":
            return (last,) if messages[last].loss_weight else ()
        if self.loss_on == "all":
            return tuple(index for index, message in enumerate(messages) if message.role == "assistant")
        return tuple(index for index, message in enumerate(messages) if message.loss_weight)

    def _turns(self, messages: Sequence[Message], *, last: int) -> list[dict[str, Any]]:
        """Messages for the template, control tokens in them marked; `last` is the last assistant turn."""
        turns = []
        for index, message in enumerate(messages):
            turn = message.template()
            keep = self.reasoning == "all" or (self.reasoning == "last" and index == last)
            if not keep or not (message.reasoning or "").strip():
                turn.pop("reasoning_content", None)
            turns.append(self._controls.mark_all(turn, self._pattern(message.role)))
        return turns

    def _pattern(self, role: str) -> Any:
        """Which tokens a role may not write. An answer may hold tokens such as <think>, which are not special."""
        return self._special if role == "assistant" else self._controls.pattern

    def _tools(self, tools: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [self._controls.mark_all(tool, self._controls.pattern) for tool in tools]

    def _found(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Control tokens in the texts of one row."""
        found: list[str] = []
        for message in messages:
            pattern = self._pattern(message.role)
            found += pattern.findall(message.content)
            if message.reasoning or message.tool_calls or message.name or message.tool_call_id:
                found += pattern.findall(json.dumps(message.template(), ensure_ascii=False))
        if tools:
            found += self._controls.pattern.findall(json.dumps(list(tools), ensure_ascii=False))
        return tuple(dict.fromkeys(found))

    def _plan(self, turns: Turns, tools: Sequence[Mapping[str, Any]], wanted: tuple[int, ...]) -> Plan:
        key = shape(turns, tools, wanted, self.thinks)
        laid = self._plans.get(key)
        if laid is None:
            try:
                laid = plan(self.template, self._controls.pattern, turns, tools, wanted, thinks=self.thinks)
            except (Fault, Refused) as fault:
                laid = fault
            self._plans[key] = laid
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        if isinstance(laid, Plan):
            return laid
        raise laid

    # from rendered texts to ids

    def _weigh(self, draft: _Draft, encoding: Encoding, index: int) -> tuple[Rendered, Notes]:
        """Put weights on the tokens of a text, cutting it where a token straddles prompt and answer, and prove them."""
        ids, offsets = self._controls.encode_marked(draft.text) if draft.marked else (encoding.ids, encoding.offsets)
        encode: Encode = self._controls.encode_marked if draft.marked else self._encode
        at = (lambda place: len(self._controls.unmark(draft.text[:place]))) if draft.marked else (lambda place: place)
        cuts = [span.begin for span in draft.spans if not self._parts_at(draft, span, ids, offsets, at(span.begin))]
        if cuts:
            ids, offsets = self._encode_apart(draft.text, cuts, encode)
        starts = [start for start, _ in offsets]
        weight = np.zeros(len(ids), dtype=np.float32)
        marks = [draft.base] if draft.base else []
        for begin, end, value in (*marks, *draft.scaled):
            weight[bisect_left(starts, at(begin)) : bisect_left(starts, at(end))] = value
        pieces, texts = [], []
        for span in draft.spans:
            first, behind = bisect_left(starts, at(span.begin)), bisect_left(starts, at(span.end))
            weight[first:behind] = span.weight
            pieces.append(ids[first:behind])
            texts.append(draft.text[span.begin : span.end])
        altered = self._prove(draft, pieces, texts, encode)
        unknown = self.vocabulary.unknown_id
        lost = 0 if unknown is None else sum(piece.count(unknown) for piece in pieces)
        rendered = Rendered(np.asarray(ids, dtype=np.int32), weight, index)
        if not rendered.supervised:
            raise Fault("T201", "no token of this row is trained after template and mask")
        return rendered, Notes(altered=altered, unknown=lost, apart=len(cuts))

    def _parts_at(self, draft: _Draft, span: _Span, ids: Ids, offsets: Offsets, begin: int) -> bool:
        """Whether the ids of the prompt alone are exactly those before the answer."""
        first = bisect_left(offsets, (begin, -1))
        if first and offsets[first - 1][1] > begin:
            return False
        if span.segment is None:
            encode: Encode = self._controls.encode_marked if draft.marked else self._encode
            return ids[:first] == encode(draft.text[: span.begin])[0]
        alone = self._segment(span.segment)
        return ids[max(0, first - len(alone)) : first] == alone

    def _encode_apart(self, text: str, cuts: Sequence[int], encode: Encode) -> tuple[Ids, Offsets]:
        ids: Ids = []
        offsets: Offsets = []
        shift = 0
        for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True):
            piece = text[start:end]
            more, places = self._continue(piece, encode) if start else encode(piece)
            ids += more
            offsets += [(first + shift, last + shift) for first, last in places]
            shift += len(self._controls.unmark(piece))
        return ids, offsets

    def _continue(self, text: str, encode: Encode) -> tuple[Ids, Offsets]:
        """Ids of a text that goes on, without the space that some tokenizers put before a text that begins."""
        if not text or not self._prepends or self._controls.pattern.match(text):
            return encode(text)
        for anchor in _ANCHORS:
            before = self._segment(anchor)
            ids, offsets = encode(anchor + text)
            cut = len(before)
            if ids[:cut] == before and (cut == len(ids) or offsets[cut][0] >= len(anchor)):
                return ids[cut:], [(start - len(anchor), end - len(anchor)) for start, end in offsets[cut:]]
        return encode(text)

    @cached_property
    def _prepends(self) -> bool:
        """Whether the tokenizer treats the beginning of a text in another way than its middle."""
        return self._encode("\na")[0] != self._encode("\n")[0] + self._encode("a")[0]

    def _segment(self, text: str) -> Ids:
        if text not in self._segments:
            self._segments[text] = self._encode(text)[0]
        return self._segments[text]

    def _encode(self, text: str) -> tuple[Ids, Offsets]:
        (encoding,) = self.vocabulary.encodings([text])
        return encoding.ids, encoding.offsets

    # the proof

    def _prove(self, draft: _Draft, pieces: Sequence[Ids], texts: Sequence[str], encode: Encode) -> int:
        """Supervised ids read exactly as the supervised text; returns how many differ by the tokenizer's own doing."""
        altered = 0
        for ids, text, span, read in zip(pieces, texts, draft.spans, self._decode(pieces), strict=True):
            wanted = self._controls.unmark(text) if draft.marked else text
            if read == wanted:
                continue
            if ids not in self._own_encodings(text, span.segment, encode):
                raise Fault("T215", "the trained tokens do not read as the answer:", excerpt=difference(wanted, read))
            altered += 1
        return altered

    def _own_encodings(self, text: str, segment: str | None, encode: Encode) -> list[Ids]:
        """What the tokenizer makes of a text that goes on, and of one that follows its prompt's last words."""
        own = [self._continue(text, encode)[0]]
        if segment is not None:
            own.append(encode(segment + text)[0][len(self._segment(segment)) :])
        return own

    def _decode(self, rows: Sequence[Ids]) -> list[str]:
        """Texts of ids that go on: nothing is stripped from their beginning."""
        before, length = self._decode_anchor
        return [text[length:] for text in self.vocabulary.decode_many([before + list(ids) for ids in rows])]

    @cached_property
    def _decode_anchor(self) -> tuple[Ids, int]:
        ids = self._segment("a")
        return ids, len(self.vocabulary.decode(ids))


def _between(layout: Layout, answer: Answer) -> str:
    """The template's text from the last slot of an answer, or from its beginning, to the end of its turn."""
    frame, offset = answer.end
    start = answer.begin[1] if answer.begin[0] == frame else 0
    return layout.frames[frame][start:offset]


def _span(answer: Answer, fit: Fit, messages: Sequence[Message]) -> _Span:
    return _Span(fit.at(answer.begin), fit.at(answer.end), messages[answer.message].loss_weight, answer.segment)


def _scaled(layout: Layout, fit: Fit, messages: Sequence[Message]) -> tuple[tuple[int, int, float], ...]:
    return tuple(
        (*span, float(weight))
        for (message, _), span in zip(layout.slots, fit.spans, strict=True)
        if (weight := messages[message].weight) is not None
    )


def _stripped(layout: Layout, fit: Fit, turns: Turns) -> int:
    return sum(
        end - start != len(turns[message][PARTS[part]])
        for (message, part), (start, end) in zip(layout.slots, fit.spans, strict=True)
    )


def _add(notes: Notes, more: Sequence[Notes]) -> Notes:
    return replace(
        notes,
        altered=sum(seen.altered for seen in more),
        unknown=sum(seen.unknown for seen in more),
        apart=sum(seen.apart for seen in more),
    )


def _problem(fault: Fault | Refused | TokenError, row: Row | None, *, file: str | None = None) -> Problem:
    line = row.origin.line if row else None
    file = row.origin.file if row else file
    if isinstance(fault, Fault):
        return Problem(fault.code, fault.what, file=file, line=line, excerpt=fault.excerpt, fix=fault.fix)
    if isinstance(fault, TokenError):
        inner = fault.problems[0]
        return Problem(inner.code, inner.what, file=file or inner.file, line=line, excerpt=inner.excerpt, fix=inner.fix)
    return Problem(
        "T217",
        f"the chat template refuses these messages: {fault}",
        file=file,
        line=line,
        fix="give the turns in the order it expects, or set base.template to a template that takes them",
    )
