"""What all graphs without a cache share: the folder's own tokenizer and template, and greedy answers token by token."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor.export.replay import Unopened

if TYPE_CHECKING:
    from sartor.export.probes import Probe


class Stateless(ABC):
    """A `Runtime` but for `compute`. Every token of an answer costs a pass over the whole text."""

    def __init__(self, folder: Path) -> None:
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.window = int(json.loads((folder / "sartor.json").read_text(encoding="utf-8"))["exported"]["window"])
        defaults = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
        ends = defaults.get("eos_token_id", [])
        self.stops: Sequence[int] = ends if isinstance(ends, list) else [ends]

    @property
    @abstractmethod
    def name(self) -> str:
        """The program with its version."""

    @abstractmethod
    def compute(self, ids: Sequence[int]) -> np.ndarray:
        """[T, V] fp32 logits of a text that fits into the window."""

    def prompt(self, probe: Probe) -> list[int]:
        """By the folder's own template."""
        turns = [dict(turn) for turn in probe.messages]
        more = {"tools": [dict(tool) for tool in probe.tools]} if probe.tools else {}
        ids = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False, **more)
        return [int(token) for token in ids]

    def logits(self, ids: Sequence[int], last: int) -> np.ndarray:
        """[last, V] fp32"""
        if len(ids) > self.window:
            raise Unopened(f"{len(ids)} tokens do not fit into the window of {self.window}")
        return self.compute(ids)[-last:]

    def generate(self, ids: Sequence[int], most: int) -> list[int]:
        """Greedily, until a stop token or the end of the window."""
        made: list[int] = []
        while len(made) < most and len(ids) + len(made) <= self.window:
            made.append(int(self.logits([*ids, *made], 1)[0].argmax()))
            if made[-1] in self.stops:
                break
        return made
