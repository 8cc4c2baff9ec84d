"""What a model does on a few prompts, in fp32, kept so that every form of it can be held against it.

    probes.jsonl         one line each: conversation, prompt ids, right answer, the model's own greedy answer and how it ended
    logits.safetensors   [P, V] fp32, after the prompt of the first P probes

P: probes with whole logits, V: vocabulary. Prompts are those of validation rows, never of test rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.rows import Example, Prompt, Row, Text
from sartor.errors import ModelError, Problem, TokenError
from sartor.store import atomic
from sartor.tokens.candidates import candidates

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Outcome
    from sartor.tokens.render import Renderer

WHOLE = 32
"""Probes whose logits are kept whole."""
MOST = 64
"""Probes in all: the others are for the score of the task."""
LONGEST_PROMPT = 384
LONGEST_ANSWER = 64
"""Tokens of a greedy answer, at most."""
LINES, LOGITS = "probes.jsonl", "logits.safetensors"
FIRST = "first"


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt and what the model makes of it."""

    id: str
    prompt: str
    """What is asked, as text for people and metrics."""
    right: str
    """The right answer."""
    messages: tuple[Mapping[str, Any], ...]
    """The conversation as a chat template takes it; none for raw text."""
    tools: tuple[Mapping[str, Any], ...]
    ids: tuple[int, ...]
    """The prompt."""
    reference: tuple[int, ...]
    """The right answer with its end-of-turn."""
    answer: tuple[int, ...] = ()
    """The model's greedy answer, the stop token included."""
    text: str = ""
    """The same as text, without the stop token."""
    stopped: bool = False
    leads: tuple[float, ...] = ()
    """At each token of the answer: the model's logit of it minus the next best one."""
    nll: float = 0.0
    """Of the right answer: sum of -log p."""


@dataclass(frozen=True, slots=True)
class Probes:
    """All probes of one model."""

    each: tuple[Probe, ...]
    first: np.ndarray
    """[P, V] fp32"""
    stop_ids: tuple[int, ...]
    max_new_tokens: int

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with either of its answers."""
        return max(len(one.ids) + max(len(one.reference), self.max_new_tokens) for one in self.each)


def asked(rows: Sequence[Row], renderer: Renderer, *, window: int | None, most: int = MOST) -> list[Probe]:
    """The first rows that make a probe: of ordinary length, their texts without control tokens, which no runtime reads alike."""
    room = min(LONGEST_PROMPT, *((window - LONGEST_ANSWER,) if window is not None else ()))
    found = (_asked(row, renderer, room) for row in rows)
    return [probe for probe in found if probe is not None][:most]


def _asked(row: Row, renderer: Renderer, room: int) -> Probe | None:
    if isinstance(row, Text):
        return _of_text(row, renderer, room)
    if isinstance(row, Prompt):
        row = row.conversation()
    answers = candidates(row)
    if answers is not None:
        row = max(answers, key=lambda one: one.labels[0]).example
    if not isinstance(row, Example):
        return None
    turns = [message.template() for message in row.prompt()]
    written = json.dumps([turns, list(row.tools)], ensure_ascii=False)
    if renderer.vocabulary.controls.pattern.search(written) or any(message.images for message in row.messages):
        return None
    try:
        ids = renderer.prompt(row.prompt(), row.tools).tolist()
        reference = renderer.completion(row.answer_text())[:LONGEST_ANSWER]
    except TokenError:
        return None
    if not 0 < len(ids) <= room or not reference:
        return None
    called = row.id or str(row.origin)
    return Probe(
        called, row.prompt_text(), row.answer_text(), tuple(turns), tuple(row.tools), tuple(ids), tuple(reference)
    )


def _of_text(row: Text, renderer: Renderer, room: int) -> Probe | None:
    """The first half of a text asks for the other half."""
    ids = renderer.vocabulary.encode(row.text, special=False)[: min(room, 2 * LONGEST_ANSWER)]
    start = [renderer.vocabulary.bos_id] if renderer.vocabulary.bos_id is not None else []
    half = len(ids) // 2
    if not half:
        return None
    before, after = (renderer.vocabulary.decode(part) for part in (ids[:half], ids[half:]))
    return Probe(row.id or str(row.origin), before, after, (), (), (*start, *ids[:half]), tuple(ids[half:]))


def record(
    policy: ModelPolicy,
    renderer: Renderer,
    probes: Sequence[Probe],
    *,
    max_new_tokens: int,
    told: Callable[[int], None],
) -> Probes:
    """Ask the model every probe, greedily, and keep its logits; `told` hears how many are done."""
    import torch

    from sartor.generate.local import LocalGenerator
    from sartor.tokens.batch import Rendered, collate

    pad = renderer.vocabulary.pad_id or 0
    generator = LocalGenerator(policy, renderer.stop_ids, pad, renderer.text, 16)
    limit = min(max_new_tokens, LONGEST_ANSWER)
    policy.eval()
    answers = {one.index: one for one in generator.complete([one.ids for one in probes], max_new_tokens=limit)}

    def logits(prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        ids = np.asarray([*prompt, *answer], np.int32)
        weight = np.asarray([0.0] * len(prompt) + [1.0] * len(answer), np.float32)
        with torch.inference_mode():
            return policy.logits(collate([Rendered(ids, weight, 0)]).to(policy.device)).float().cpu()

    made, first = [], []
    for place, probe in enumerate(probes):
        answer = answers[place]
        at = logits(probe.ids, answer.ids)
        best = at.topk(2, dim=1).values
        chosen = at.gather(1, torch.tensor(answer.ids)[:, None])[:, 0]
        second = torch.where(chosen >= best[:, 0], best[:, 1], best[:, 0])
        right = logits(probe.ids, probe.reference)
        target = torch.tensor(probe.reference)[:, None]
        nll = float((right.logsumexp(dim=1) - right.gather(1, target)[:, 0]).sum())
        leads = tuple((chosen - second).tolist())
        made.append(replace(probe, answer=answer.ids, text=answer.text, stopped=answer.stopped, leads=leads, nll=nll))
        if place < WHOLE:
            first.append(at[0].numpy())
        told(place + 1)
    return Probes(tuple(made), np.stack(first), tuple(sorted(renderer.stop_ids)), limit)


def keep(probes: Probes, folder: Path, about: Mapping[str, Any]) -> None:
    """Write them, whole or not at all."""
    from safetensors.numpy import save_file

    def lines(path: Path) -> None:
        text = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in probes.each)
        path.write_text(text, encoding="utf-8")

    def logits(path: Path) -> None:
        save_file({FIRST: np.ascontiguousarray(probes.first)}, path)

    facts = {**about, "stop_ids": list(probes.stop_ids), "max_new_tokens": probes.max_new_tokens}
    atomic.publish(folder, {LINES: lines, LOGITS: logits}, about=facts)


def kept(folder: Path) -> Probes:
    """Those of a folder. Raises ModelError M202 where they are damaged."""
    from safetensors.numpy import load_file

    try:
        about = atomic.seal(folder)["about"]
        problems = atomic.verify(folder)
    except ValueError as fault:
        about, problems = {}, [str(fault)]
    if problems:
        fix = "remove the folder: probes are made again"
        raise ModelError(Problem("M202", f"the probes are damaged: {problems[0]}", file=str(folder), fix=fix))
    first = load_file(folder / LOGITS)[FIRST]
    return Probes(tuple(_read(folder / LINES)), first, tuple(about["stop_ids"]), int(about["max_new_tokens"]))


def _read(path: Path) -> Iterator[Probe]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            body: dict[str, Any] = json.loads(line)
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
            yield Probe(**fields)


def outcomes(probes: Probes, texts: Sequence[str], nll: Sequence[float], stopped: Sequence[bool]) -> list[Outcome]:
    """What metrics judge: what was answered to each probe, and how likely the right answer was."""
    from sartor.protocols import Outcome

    return [
        Outcome(
            id=one.id, prompt=one.prompt, reference=one.right, prediction=text, nll=loss, tokens=len(one.reference),
            bytes=len(one.right.encode()), stopped=ended,
        )
        for one, text, loss, ended in zip(probes.each, texts, nll, stopped, strict=True)
    ]  # fmt: skip
