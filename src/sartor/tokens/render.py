"""The one place where a row becomes token ids and loss weights, and a prompt becomes what the model sees.

The supervised text of an answer is what the user wrote (with its reasoning and tool calls) plus the end-of-turn token.
Prompts are found by comparing renderings as prefixes (`layout.py`), never by markers; `weigh.py` finds the answers' tokens
and proves them. `Renderer.prompt` gives exactly the ids that stand before the answer in training.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sartor.data.images import every
from sartor.data.rows import ROLES, Example, Message, Prompt, Row, Text
from sartor.errors import Problem, TokenError
from sartor.tokens.batch import Rendered
from sartor.tokens.candidates import Candidate, apart, candidates, compared
from sartor.tokens.controls import MARKS, Controls, any_of
from sartor.tokens.layout import PARTS, Answer, Fault, Fit, Layout, Plan, Turns, alike, plan, prompt, shape
from sartor.tokens.sight import Sight, expanded, shown, turn_of
from sartor.tokens.template import PAIRED, PLAIN, ChatTemplate, Refused
from sartor.tokens.vocabulary import Vocabulary
from sartor.tokens.weigh import Draft, Ids, Notes, Span, Weigher

LossOn = Literal["answers", "last_answer", "all"]
Reasoning = Literal["all", "last", "none"]

_PLANS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row, rendered and proven."""

    rendered: list[Rendered]
    notes: Notes


@dataclass(frozen=True, slots=True)
class _Drafted:
    """One row as texts that wait for their ids."""

    drafts: list[Draft]
    notes: Notes
    answers: tuple[Candidate, ...] = ()
    """The answers to compare, a draft for each; none where the row holds no such."""


class Renderer:
    """Rows to ids and weights, prompts to ids, ids to text, for one vocabulary and one template.

    Args:
        vocabulary: the model's vocabulary.
        template: its chat template; `template.PLAIN` for a model without one, `PAIRED` for an encoder-decoder.
        loss_on: which turns are learnt.
        reasoning: which assistant turns keep their reasoning.
        thinks: whether the model is to decide by itself how it begins an answer, as it must where rows hold reasoning:
            prompts then end at the generation prompt. Otherwise an empty thinking block and the like belong to the
            prompt. A row with reasoning always begins at the generation prompt.
        sight: how the model sees images; None: it reads text alone.

    Raises:
        TokenError: T210, the plain template needs an end-of-text token that the vocabulary does not have; T227.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        *,
        loss_on: LossOn = "answers",
        reasoning: Reasoning = "all",
        thinks: bool = False,
        sight: Sight | None = None,
    ) -> None:
        self.vocabulary, self.template = vocabulary, template
        self.loss_on, self.reasoning, self.thinks, self.sight = loss_on, reasoning, thinks, sight
        if template.source in (PLAIN, PAIRED) and "eos_token" not in vocabulary.named:
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
        ends = {vocabulary.named.get("bos_token"), vocabulary.named.get("eos_token")}
        _check_recognised(vocabulary, [text for text in framing if text in in_template or text in ends], template.label)
        self._weigher = Weigher(self._controls)
        self._special = any_of(tuple(special))
        self._plans: OrderedDict[tuple[Any, ...], Plan | Fault | Refused] = OrderedDict()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides ids and weights."""
        parts = [self.vocabulary.fingerprint, self.template.fingerprint, self.loss_on, self.reasoning, self.thinks]
        parts += [self.sight.fingerprint] if self.sight is not None else []
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
        drafts = [draft for entry in made if not isinstance(entry, Problem) for draft in entry.drafts]
        encoded = iter(self.vocabulary.encodings(["" if draft.marked else draft.text for draft in drafts]))
        results: list[Tokens | Problem] = []
        for (index, row), entry in zip(rows, made, strict=True):
            if isinstance(entry, Problem):
                results.append(entry)
                continue
            if isinstance(row, Prompt):
                results.append(self._asked(row, index, entry.notes))
                continue
            own = [(draft, next(encoded)) for draft in entry.drafts]
            try:
                weighed = [self._weigher.weigh(draft, encoding, index) for draft, encoding in own]
                found = [self._seen(draft, ones) for (draft, _), (ones, _) in zip(own, weighed, strict=True)]
                rendered = compared(found, entry.answers) if entry.answers else [one for ones in found for one in ones]
            except (Fault, TokenError) as fault:
                results.append(_problem(fault, row))
                continue
            results.append(Tokens(rendered, _add(entry.notes, [seen for _, seen in weighed])))
        return results

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> np.ndarray:
        """[L] int32, the ids up to where the answer begins, images as the model sees them.

        Raises:
            TokenError: T217, the template does not accept these messages; T240 to T242, it does not show their images.
        """
        given = self._tools(tools)
        try:
            turns = self._turns(messages, last=len(messages))
            text = self._prompt_text(turns, given)
            marked = MARKS.search(json.dumps([turns, given], ensure_ascii=False))
            found = self._controls.encode_marked(text)[0] if marked else self._weigher.encode(text)[0]
            ids = np.asarray(found, dtype=np.int32)
            return ids if self.sight is None else expanded(ids, every(messages), self.sight)[0]
        except (Refused, Fault) as fault:
            raise TokenError(_problem(fault, None)) from fault

    def _seen(self, draft: Draft, rendered: list[Rendered]) -> list[Rendered]:
        """The renderings of a text with its images; one that ends before the others shows only those that stand in it."""
        if self.sight is None:
            return rendered
        counts = [int((one.ids == self.sight.placeholder).sum()) for one in rendered[:-1]] + [len(draft.images)]
        return [shown(one, draft.images[:count], self.sight) for one, count in zip(rendered, counts, strict=True)]

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
        encode = self._weigher.encoder(marked != text)
        tail = (answer.lead or "") + marked + self._closing
        ids, offsets = encode(segment + tail)
        before = self._weigher.segment(segment)
        cut = len(before)
        if ids[:cut] == before and (not cut or offsets[cut - 1][1] <= len(segment)):
            return ids[cut:]
        return self._weigher.go_on(tail, encode)[0]

    def text(self, ids: Sequence[int]) -> str:
        """What a person reads of generated ids: without end-of-turn, without the template's whitespace before an answer."""
        kept = list(ids)
        for place, index in enumerate(kept):
            if int(index) in self.stop_ids:
                kept = kept[:place]
                break
        before, after = self._around
        return self.decode([kept])[0].removeprefix(before).removesuffix(after)

    @cached_property
    def _around(self) -> tuple[str, str]:
        """Whitespace that template and tokenizer put before an answer, and between it and its end-of-turn."""
        ids = self.completion("x")
        ended = next((place for place, index in enumerate(ids) if index in self.stop_ids), len(ids))
        before, _, after = self.decode([ids[:ended]])[0].partition("x")
        return before if before.isspace() else "", after

    def decode(self, rows: Sequence[Ids]) -> list[str]:
        """Texts of ids from the middle of rows: control tokens shown, nothing stripped."""
        return self._weigher.decode(rows)

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

    def _draft(self, row: Row) -> _Drafted | Problem:
        try:
            if isinstance(row, Text):
                return _Drafted(*self._draft_text(row))
            if isinstance(row, Example):
                return _Drafted(*self._draft_chat(row.conversation()))
            if isinstance(row, Prompt):
                return _Drafted([], Notes(controls=self._found(row.messages, row.tools)))
            answers = candidates(row)
            if answers is not None:
                return self._draft_candidates(answers)
        except (Fault, Refused, TokenError) as fault:
            return _problem(fault, row)
        return _problem(Fault("T201", f"a row of kind {row.kind} holds no single answer to learn"), row)

    def _asked(self, row: Prompt, index: int, notes: Notes) -> Tokens | Problem:
        """A prompt alone, which ends where an answer begins; its weight is on that token."""
        try:
            ids = self.prompt(row.messages, row.tools)
        except TokenError as fault:
            return _problem(fault, row)
        weight = np.zeros(len(ids), np.float32)
        weight[-1] = 1.0
        return Tokens([Rendered(ids, weight, index, images=every(row.messages))], notes)

    def _draft_text(self, row: Text) -> tuple[list[Draft], Notes]:
        bos, eos = (self.vocabulary.named.get(name, "") for name in ("bos_token", "eos_token"))
        body = self._controls.mark(row.text, self._special)
        text = bos + body + eos
        found = tuple(self._special.findall(row.text)) if body is not row.text else ()
        return [Draft(text, bool(found), (), (0, len(text), 1.0), ())], Notes(controls=found)

    def _draft_candidates(self, answers: Sequence[Candidate]) -> _Drafted:
        if self.loss_on == "all":
            what = "answers that are compared are learnt, not their prompt"
            raise Fault("T201", what, fix="data.loss_on: answers")
        drafts: list[Draft] = []
        notes: list[Notes] = []
        for answer in answers:
            try:
                own, seen = self._draft_chat(answer.example)
            except Fault as fault:
                raise Fault(fault.code, f"{answer.name}: {fault.what}", fix=fault.fix, excerpt=fault.excerpt) from fault
            if len(own) != 1:
                raise apart(answer)
            drafts += own
            notes.append(seen)
        controls = tuple(dict.fromkeys(token for seen in notes for token in seen.controls))
        told = Notes(any(seen.expanded for seen in notes), controls, max(seen.stripped for seen in notes))
        return _Drafted(drafts, told, tuple(answers))

    def _draft_chat(self, row: Example) -> tuple[list[Draft], Notes]:
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
        drafts: list[Draft] = []
        stripped, before = 0, ""
        for layout in laid.layouts:
            text = self.template.render(turns[: layout.count], tools=tools, generation=False)
            fit = layout.fit(text, turns)
            stripped = max(stripped, _stripped(layout, fit, turns))
            spans = tuple(_span(answer, fit, row.messages) for answer in layout.answers)
            everything = self.loss_on == "all"
            base = (alike(before, text), len(text), 1.0) if everything else None
            scaled = _scaled(layout, fit, row.messages) if everything else ()
            images = every(row.messages[: layout.count])
            drafts.append(Draft(text, bool(found), spans, base, scaled, images))
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
        for index, given in enumerate(messages):
            if self._is_plain(given):
                turns.append({"role": given.role, "content": given.content})
                continue
            message = split_reasoning(given) if self._reasons else given
            turn = message.template()
            if message.images:
                if self.sight is None:
                    what = "this row shows an image, and the base reads text alone"
                    raise Fault("T240", what, fix="a base that sees images, or rows without them")
                turn = turn_of(message, turn)
            keep = self.reasoning == "all" or (self.reasoning == "last" and index == last)
            if not keep or not (message.reasoning or "").strip():
                turn.pop("reasoning_content", None)
            turns.append(self._controls.mark_all(turn, self._pattern(message.role)))
        return turns

    def _is_plain(self, message: Message) -> bool:
        """Whether a message becomes its role and content as they are."""
        if not message.bare or message.role not in self._unmarked_roles or "</think>" in message.content:
            return False
        if not message.content.isascii() and MARKS.search(message.content):
            return False
        return self._pattern(message.role).search(message.content) is None

    @cached_property
    def _unmarked_roles(self) -> frozenset[str]:
        """The roles that hold no control token themselves."""
        return frozenset(role for role in ROLES if not any(map(self._pattern(role).search, (role, "role", "content"))))

    @cached_property
    def _reasons(self) -> bool:
        """Whether the template takes reasoning as a field of its own."""
        return any(name in self.template.source for name in ("reasoning_content", "thinking"))

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


def _check_recognised(vocabulary: Vocabulary, tokens: Sequence[str], label: str) -> None:
    """The tokenizer must make one id of each control token that the template writes."""
    for text, encoding in zip(tokens, vocabulary.encodings(["a" + text for text in tokens]), strict=True):
        if vocabulary.added[text] not in encoding.ids:
            what = f'the tokenizer does not recognise the control token "{text}" that the chat template writes'
            fix = "give it normalized: false in tokenizer.json, as all control tokens have"
            raise TokenError(Problem("T227", what, file=label, fix=fix))


def has_reasoning(row: Row) -> bool:
    """Whether an answer of this row comes with reasoning, as a field or as `<think>...</think>` at its beginning."""
    rows = [row] if isinstance(row, Example) else [answer.example for answer in candidates(row) or ()]
    return any(split_reasoning(message).reasoning for one in rows for message in one.messages)


def split_reasoning(message: Message) -> Message:
    """An answer that begins with `<think>...</think>` with its reasoning as a field, as reasoning templates take it."""
    head, closed, answer = message.content.partition("</think>")
    opened = head.lstrip()
    if message.role != "assistant" or message.reasoning is not None or not closed or not opened.startswith("<think>"):
        return message
    return replace(message, reasoning=opened.removeprefix("<think>").strip("\n"), content=answer.lstrip("\n"))


def _between(layout: Layout, answer: Answer) -> str:
    """The template's text from the last slot of an answer, or from its beginning, to the end of its turn."""
    frame, offset = answer.end
    start = answer.begin[1] if answer.begin[0] == frame else 0
    return layout.frames[frame][start:offset]


def _span(answer: Answer, fit: Fit, messages: Sequence[Message]) -> Span:
    return Span(fit.at(answer.begin), fit.at(answer.end), messages[answer.message].loss_weight, answer.segment)


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
    counts = ((seen.altered, seen.unknown, seen.apart) for seen in more)
    return Notes(notes.expanded, notes.controls, notes.stripped, *map(sum, zip(*counts, strict=True)))


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
