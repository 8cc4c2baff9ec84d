"""Answers that a model gave before, so that a further metric, suite or model costs no generation.

An answer is known by the model (every byte of its weights), the ids of the prompt as the model saw them, and how it was made; only
answers at temperature 0 are kept, which are the same each time.

    FOLDER/1f/1f3a...jsonl      one file for each model: {"key": ..., "text": ..., "stopped": true, "check": ...}

`check` is a hash of the line: one that a kill has torn or a disk has changed is left out, counted, and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sartor.store import atomic
from sartor.store.fingerprint import of_file, weights

VERSION = 1
"""Raised where the same model would answer otherwise than before."""


def home() -> Path:
    """The folder of the cache: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sartor" / "answers"


def model_key(folders: Sequence[Path], **how: Any) -> str:
    """What a model is known by: the bytes of its weights and configuration, and `how` it is asked (type, vocabulary, stop tokens)."""
    files = [of_file(path) for folder in folders for path in weights(folder)]
    told = json.dumps([VERSION, files, how], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


class AnswerCache:
    """The answers of one model; new ones are written as they come.

    Args:
        folder: of the cache.
        key: of `model_key`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._file = folder / key[:2] / f"{key}.jsonl"
        self._known: dict[str, tuple[str, bool]] = {}
        self.damaged = 0
        """Lines that were left out."""
        self.found = 0
        """Answers that were asked for and known."""
        if self._file.exists():
            with atomic.coded(self._file, verb="read"):
                lines = self._file.read_bytes().split(b"\n")
            for line in lines:
                if line.strip():
                    self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            key, text, stopped = entry["key"], entry["text"], entry["stopped"]
            whole = entry["check"] == _check(key, text, stopped)
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            self._known[key] = (text, stopped)
        else:
            self.damaged += 1

    def get(self, prompt: Sequence[int], max_new_tokens: int) -> tuple[str, bool] | None:
        """(text, ended by itself); None where it is not known."""
        answer = self._known.get(_key(prompt, max_new_tokens))
        self.found += answer is not None
        return answer

    def put(self, answers: Mapping[tuple[int, ...], tuple[str, bool]], max_new_tokens: int) -> None:
        """Keep answers by their prompts."""
        if not answers:
            return
        lines = []
        for prompt, (text, stopped) in answers.items():
            key = _key(prompt, max_new_tokens)
            self._known[key] = (text, stopped)
            body = {"key": key, "text": text, "stopped": stopped, "check": _check(key, text, stopped)}
            lines.append(json.dumps(body) + "\n")
        atomic.make_folder(self._file.parent)
        with atomic.coded(self._file), self._file.open("ab+") as file:
            if file.tell() and not _ends_a_line(self._file):
                file.write(b"\n")
            file.write("".join(lines).encode())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _key(prompt: Sequence[int], max_new_tokens: int) -> str:
    told = f"{max_new_tokens}:" + ",".join(map(str, prompt))
    return hashlib.sha256(told.encode()).hexdigest()


def _check(key: str, text: str, stopped: bool) -> str:
    return hashlib.sha256(json.dumps([key, text, stopped]).encode()).hexdigest()[:16]
