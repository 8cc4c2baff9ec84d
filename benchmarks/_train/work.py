"""The work every contender is given: a model shape, rows of token ids, and what one optimiser step holds.

Imported in every environment, so numpy is all it needs. A work folder holds `work.json`, `rows.npz`, `model/` and, for
Sartor, `recipe.yaml` and `tokens/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SEED = 5
MEAN_TOKENS, SPREAD, SHORTEST, LONGEST = 180, 0.8, 16, 1024
"""Mean row length before the redrawing of `draw_lengths` raises it to about 205, standard deviation of its logarithm, bounds."""
PROMPT = 0.6
"""Share of a row that is prompt and carries no loss."""
SPECIAL = 3
"""Token ids 0 to 2: begin, end, padding."""
RANK, ALPHA = 16, 32.0


@dataclass(frozen=True)
class Shape:
    """A Llama by its sizes, and how much one optimiser step holds."""

    hidden: int
    layers: int
    heads: int
    keys: int
    intermediate: int
    vocabulary: int
    tied: bool = True
    rows: int = 16
    """Rows of one optimiser step."""
    sequence: int = 1024
    """Length that packing contenders fill."""
    sequences: int = 4
    """How many of them the rows of a step fill; rows are drawn again until they do."""

    def config(self) -> dict[str, Any]:
        """The contents of config.json."""
        return {
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.keys,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": max(2048, self.sequence),
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        }


SHAPES = {
    "15m": Shape(288, 6, 6, 6, 768, 32_000),
    "135m": Shape(576, 30, 9, 3, 1536, 49_152),
    "1b": Shape(2048, 16, 32, 8, 8192, 128_256, rows=64, sequence=4096),
    "8b": Shape(4096, 32, 32, 8, 14_336, 128_256, tied=False, rows=64, sequence=4096),
}


@dataclass(frozen=True)
class Work:
    """One job, read back by every contender."""

    folder: Path
    shape: str
    method: str
    device: str
    threads: int
    warmup: int
    """Steps before the measured ones."""
    steps: int
    learning_rate: float
    lengths: Sequence[int] = field(repr=False)
    """Tokens of each row; rows s * R to (s + 1) * R - 1 make step s."""
    prompts: Sequence[int] = field(repr=False)
    """How many tokens at the start of each row carry no loss."""

    @property
    def form(self) -> Shape:
        """The sizes."""
        return SHAPES[self.shape]

    @property
    def model(self) -> Path:
        """The model folder, fp32 safetensors."""
        return self.folder / "model"

    @property
    def measured(self) -> range:
        """The rows of the measured steps."""
        rows = self.form.rows
        return range(self.warmup * rows, (self.warmup + self.steps) * rows)

    def save(self) -> None:
        """Write work.json."""
        (self.folder / "work.json").write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))

    @classmethod
    def open(cls, folder: Path) -> Work:
        """Read work.json."""
        body = json.loads((folder / "work.json").read_text())
        return cls(**{**body, "folder": folder})

    def ids(self) -> list[np.ndarray]:
        """The token ids of each row, int32."""
        flat = np.load(self.folder / "rows.npz")["ids"]
        return np.split(flat, np.cumsum(self.lengths)[:-1])


def best_fit(lengths: Sequence[int], size: int) -> int:
    """How many bins of `size` best fit decreasing fills with the rows."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [index for index, left in enumerate(room) if left >= length]
        if fitting:
            room[min(fitting, key=lambda index: room[index])] -= length
        else:
            room.append(size - length)
    return len(room)


def draw_lengths(shape: Shape, steps: int, draw: np.random.Generator) -> list[int]:
    """Log-normal row lengths; each step is drawn again until its rows fill exactly `shape.sequences` packs."""
    centre = np.log(MEAN_TOKENS) - SPREAD**2 / 2
    lengths: list[int] = []
    for _ in range(steps):
        while True:
            rows = np.clip(draw.lognormal(centre, SPREAD, shape.rows).astype(int), SHORTEST, LONGEST).tolist()
            if best_fit(rows, shape.sequence) == shape.sequences:
                break
        lengths += rows
    return lengths


def draw_ids(shape: Shape, tokens: int, draw: np.random.Generator) -> np.ndarray:
    """Token ids with the uneven frequencies of a language (Zipf), so that there is something to learn. int32 [tokens]"""
    ranks = np.arange(shape.vocabulary - SPECIAL)
    shares = 1 / (ranks + 10.0)
    return (SPECIAL + draw.choice(ranks, size=tokens, p=shares / shares.sum())).astype(np.int32)


def prompt_lengths(lengths: Sequence[int]) -> list[int]:
    """How much of each row is prompt."""
    return [max(1, round(PROMPT * length)) for length in lengths]


def flops(config: Mapping[str, int], lengths: Sequence[int], supervised: int, method: str) -> float:
    """Floating point operations that one pass over the rows cannot do without, forward and backward.

    A product of [m, k] and [k, n] counts 2mkn. Attention counts the causal half; the head counts the `supervised` places
    alone; padding and recomputation count nothing. Backward costs twice the forward pass, or as much as it where the
    weights are frozen (attention has no weights: always twice). Norms, softmax and the optimiser are left out.
    """
    hidden, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    size = hidden // config["num_attention_heads"]
    sides = [(hidden, hidden), (hidden, hidden)] + 2 * [(hidden, config["num_key_value_heads"] * size)]
    sides += 3 * [(hidden, inner)]
    tokens = sum(lengths)
    trunk = 2.0 * tokens * layers * sum(a * b for a, b in sides)
    attention = 2.0 * layers * hidden * sum(length**2 for length in lengths)
    head = 2.0 * supervised * hidden * config["vocab_size"]
    if method == "full":
        return 3 * (trunk + attention + head)
    updates = 2.0 * tokens * layers * RANK * sum(a + b for a, b in sides)
    return 2 * (trunk + head) + 3 * (attention + updates)
