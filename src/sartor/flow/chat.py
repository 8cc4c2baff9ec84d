"""A conversation with one model, or with two that answer the same words, each with its own memory of what it said."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.rows import Message
from sartor.errors import ModelError, Problem
from sartor.flow.model import find, load

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.models.base import ModelPolicy
    from sartor.models.catalog import ModelFolder
    from sartor.tokens.render import Renderer

Say = Callable[[str, str], None]
"""Told (name of the speaker, a further piece of its answer) as it is spoken."""

UNFINISHED = "\ufffd"
"""How half of a character looks."""


@dataclass(slots=True)
class Speaker:
    """One model in a conversation."""

    name: str
    policy: ModelPolicy
    renderer: Renderer
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered while it speaks; for the base of an adapter it switches the adapter off."""
    said: list[Message] = field(default_factory=list)
    """User and assistant turns so far, without the system message."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model answered."""

    text: str
    stopped: bool
    """Whether it ended by itself."""
    forgotten: int
    """Earlier turns left out because the model's window is full."""


def speakers(reference: str, against: str | None) -> list[Speaker]:
    """The model of `reference`, and before it the one it is set against.

    `against` is "base" (what the model was tuned from), another model, "none", or None: the base if the model has one.
    Raises ModelError M151 where a base is asked for and there is none.
    """
    folder = find(reference, Path.cwd())
    facts = _facts(folder)
    if against is None:
        against = "base" if folder.base or facts else "none"
    tuned = load(folder.path)
    subject = Speaker("tuned" if folder.base or facts else reference, tuned.policy, tuned.renderer)
    if against == "none":
        return [subject]
    if against != "base":
        other = load(against)
        name = against if against != subject.name else f"{against} (2)"
        return [Speaker(name, other.policy, other.renderer), subject]
    if folder.base:
        return [Speaker("base", tuned.policy, tuned.renderer, tuned.policy.reference), subject]
    origin = next((str(facts[key]) for key in ("base_path", "base") if facts.get(key)), None)
    if origin is None:
        what = f"{reference} does not say what it was tuned from"
        raise ModelError(Problem("M151", what, fix="--against MODEL, or leave it out"))
    return [Speaker("base", load(origin).policy, tuned.renderer), subject]


def _facts(folder: ModelFolder) -> dict[str, Any]:
    """What training noted beside a model; nothing for a model that was not tuned here."""
    path = folder.path / "sartor.json"
    if not path.is_file():
        return {}
    facts = json.loads(path.read_text(encoding="utf-8"))
    return facts if isinstance(facts, dict) else {}


class Chat:
    """A conversation that goes on: every speaker hears the same user."""

    def __init__(
        self,
        speakers: list[Speaker],
        *,
        system: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.speakers, self.system = speakers, system
        self.max_new_tokens, self.temperature, self.seed = max_new_tokens, temperature, seed
        self.turns: list[dict[str, Any]] = []

    def ask(self, text: str, say: Say = lambda name, piece: None) -> dict[str, Answer]:
        """The answer of every speaker, one after the other, told to `say` piece by piece."""
        answers = {speaker.name: self._answer(speaker, text, say) for speaker in self.speakers}
        self.turns.append({"user": text, "answers": {name: answer.text for name, answer in answers.items()}})
        return answers

    def reset(self) -> None:
        """Forget everything said; the system message stays."""
        for speaker in self.speakers:
            speaker.said.clear()

    def json(self) -> dict[str, Any]:
        """All turns as one JSON object."""
        return {"models": [speaker.name for speaker in self.speakers], "system": self.system, "turns": self.turns}

    def render(self, console: Console) -> None:
        """Nothing: it was printed as it was spoken."""

    def _answer(self, speaker: Speaker, text: str, say: Say) -> Answer:
        speaker.said.append(Message("user", text))
        prompt, forgotten = self._prompt(speaker)
        spoken = 0

        def listen(index: int, so_far: str) -> None:
            nonlocal spoken
            whole = so_far.rstrip(UNFINISHED)
            if len(whole) > spoken:
                say(speaker.name, whole[spoken:])
                spoken = len(whole)

        from sartor.generate.local import LocalGenerator

        renderer = speaker.renderer
        pad = renderer.vocabulary.pad_id or 0
        generator = LocalGenerator(speaker.policy, renderer.stop_ids, pad, renderer.text, batch=1)
        with speaker.around():
            ((_, answer, stopped),) = generator.generate(
                [prompt],
                max_new_tokens=self.max_new_tokens,
                temperature=self.temperature,
                seed=self.seed + len(self.turns),
                listen=listen,
            )
        if len(answer) > spoken:
            say(speaker.name, answer[spoken:])
        speaker.said.append(Message("assistant", answer))
        return Answer(answer, stopped, forgotten)

    def _prompt(self, speaker: Speaker) -> tuple[list[int], int]:
        """The prompt, without as many of the oldest exchanges as do not fit, and how many turns those are."""
        head = [Message("system", self.system)] if self.system else []
        window = speaker.policy.window
        for start in range(0, len(speaker.said), 2):
            ids = speaker.renderer.prompt([*head, *speaker.said[start:]]).tolist()
            if window is None or len(ids) + min(self.max_new_tokens, window // 2) <= window:
                return ids, start
        del speaker.said[-1]
        raise ModelError(
            Problem("M150", f"this is longer than the window of {speaker.name} ({window:,} tokens)", fix="say less")
        )
