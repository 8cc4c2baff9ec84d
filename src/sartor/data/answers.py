"""What models answered, kept in a file: the same question to the same model is asked once, and a rerun gives the same rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sartor.protocols import Metered, Models, Reply, Speaker, Writer

FILE = "answers.jsonl"


class NotAsked(Exception):
    """There is no answer yet, and nobody may be asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    text: str
    tokens: tuple[int, int] | None = None
    """How many the model read and wrote for it, where it tells."""


class Answers:
    """Answers by what was asked of whom. `models` None: only what is in the file is known."""

    def __init__(self, folder: Path, root: Path, models: Models | None) -> None:
        self._file, self._root, self._models = folder / FILE, root, models
        self._known: dict[str, Answer] = {}
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the line at which an earlier run was killed
                    continue
                self._known[entry["key"]] = Answer(entry["answer"], _pair(entry.get("tokens")))

    def ask(
        self, speaker: Speaker, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """[n] the answer to each prompt. Raises NotAsked, and what the model raises."""
        found = self.told(speaker, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return [answer.text for answer in found]

    def told(
        self, speaker: Speaker, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[Answer]:
        """[n] the same with what each cost."""
        about = [_named(speaker), self._state(speaker), max_new_tokens, temperature, seed]
        keys = [hashlib.sha256(json.dumps([*about, prompt]).encode()).hexdigest() for prompt in prompts]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        missing = sorted(place for key, place in first.items() if key not in self._known)
        if missing:
            if self._models is None:
                raise NotAsked
            writer = self._models(speaker)
            asked = [prompts[place] for place in missing]
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab+") as file:
                _end_line(file)
                for reply in _replies(writer, asked, max_new_tokens, temperature, seed):
                    key = keys[missing[reply.place]]
                    self._known[key] = Answer(reply.text, reply.tokens)
                    cost = {} if reply.tokens is None else {"tokens": reply.tokens}
                    file.write(json.dumps({"key": key, "answer": reply.text, **cost}).encode() + b"\n")
                    file.flush()
        return [self._known[key] for key in keys]

    def _state(self, speaker: Speaker) -> list[tuple[str, int, int]]:
        """Names, sizes and times of the files of a model folder: another model under the same path is another one."""
        folder = self._root / Path(speaker.model).expanduser()
        if speaker.endpoint is not None or not folder.is_dir():
            return []
        facts = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts]


def _replies(
    writer: Writer, prompts: Sequence[str], max_new_tokens: int, temperature: float, seed: int
) -> Iterator[Reply]:
    if isinstance(writer, Metered):
        yield from writer.replies(prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return
    for place, text in writer.write(prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed):
        yield Reply(place, text)


def _end_line(file: BinaryIO) -> None:
    """Ends the line that an earlier run was killed in, so that the next one stands alone."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _named(speaker: Speaker) -> dict[str, Any]:
    """What tells one speaker from another."""
    return {name: value for name, value in asdict(speaker).items() if name != "form" or value is not None}


def _pair(value: Any) -> tuple[int, int] | None:
    return None if value is None else (value[0], value[1])
