"""What models answered, kept in a file: the same question to the same model is asked once, and a rerun gives the same rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sartor.protocols import Models, Speaker

FILE = "answers.jsonl"


class NotAsked(Exception):
    """There is no answer yet, and nobody may be asked."""


class Answers:
    """Answers by what was asked of whom. `models` None: only what is in the file is known."""

    def __init__(self, folder: Path, root: Path, models: Models | None) -> None:
        self._file, self._root, self._models = folder / FILE, root, models
        self._known: dict[str, str] = {}
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the line at which an earlier run was killed
                    continue
                self._known[entry["key"]] = entry["answer"]

    def ask(
        self, speaker: Speaker, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """[n] the answer to each prompt. Raises NotAsked, and what the model raises."""
        about = [asdict(speaker), self._state(speaker), max_new_tokens, temperature, seed]
        keys = [hashlib.sha256(json.dumps([*about, prompt]).encode()).hexdigest() for prompt in prompts]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        missing = sorted(place for key, place in first.items() if key not in self._known)
        if missing:
            if self._models is None:
                raise NotAsked
            writer = self._models(speaker)
            asked = [prompts[place] for place in missing]
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                for place, answer in writer.write(
                    asked, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
                ):
                    self._known[keys[missing[place]]] = answer
                    file.write(json.dumps({"key": keys[missing[place]], "answer": answer}) + "\n")
                    file.flush()
        return [self._known[key] for key in keys]

    def _state(self, speaker: Speaker) -> list[tuple[str, int, int]]:
        """Names, sizes and times of the files of a model folder: another model under the same path is another one."""
        folder = self._root / Path(speaker.model).expanduser()
        if speaker.endpoint is not None or not folder.is_dir():
            return []
        facts = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts]
