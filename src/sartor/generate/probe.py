"""Measures on the model at hand whether slots give what the model itself gives. Never an allow-list of architectures.

Rows of random tokens, more than there are slots and two of them alike at their beginning, are continued greedily, and so are
rows that all begin alike; then the model's own plain forward pass over each finished row must give the logits from which every
token was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sartor.generate.engine import ROUND, SHARED, Engine, Share, attending
from sartor.generate.rows import Row
from sartor.models.attention import NAME
from sartor.models.probe import TOLERANCE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.policy import CausalPolicy

LENGTHS = (SHARED + 7, SHARED + 3, 9, 1, 5)
"""Of the prompts; the first two share their beginning."""
STEPS = (3, 6, 2, 5, 4)
"""Tokens generated for each."""
BRANCHES = (7, 1, 4)
"""Of the prompts of other rows, behind what these share."""
COUNT = 3
"""Slots."""

_known: WeakKeyDictionary[PreTrainedModel, str | None] = WeakKeyDictionary()


def obstacle(policy: CausalPolicy) -> str | None:
    """Why this model cannot generate in slots; None: it can. Measured once for each model."""
    if policy.model not in _known:
        _known[policy.model] = _measure(policy)
    return _known[policy.model]


def _measure(policy: CausalPolicy) -> str | None:
    if policy.model.config._attn_implementation != NAME:
        return "its attention is its own"
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
        for row, line in zip(rows, logits, strict=True):
            seen[row.index, len(row.ids)] = line.float()
        return logits.argmax(dim=1).tolist()

    engine = Engine(policy, frozenset(), choose)
    shares = [
        Share(_rows(policy.vocabulary), COUNT, 3 * ROUND),
        Share(_branches(policy.vocabulary), COUNT, ROUND, SHARED),
    ]
    try:
        finished = [row for share in shares for bunch in engine.run(share) for row in bunch]
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"its forward pass does not take rows end to end ({type(error).__name__})"
    if engine.windows != _windows(policy.model):
        return "its layers look back in a way that is not told to the attention"
    tolerance = TOLERANCE[next(policy.model.parameters()).dtype]
    for row in finished:
        own = _own(policy, np.concatenate([row.prompt, row.ids[:-1]]), len(row.ids))
        ours = torch.stack([seen[row.index, step] for step in range(len(row.ids))])
        if ours.shape != own.shape or not float((ours - own).abs().max() / own.abs().max()) <= tolerance:
            return "its own logits differ from those of slots"
    return None


def _windows(model: PreTrainedModel) -> dict[int, int | None] | None:
    """How many places each layer looks back, from the cache that transformers itself would make; None: it keeps something else.

    The rows of a probe are shorter than most windows, so their logits say nothing about this.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=model.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return None
    return {index: getattr(layer, "sliding_window", None) for index, layer in enumerate(layers)}


def _rows(vocabulary: int) -> list[Row]:
    draw = np.random.default_rng(0)
    prompts = [draw.integers(0, vocabulary, length) for length in LENGTHS]
    prompts[1][:SHARED] = prompts[0][:SHARED]
    return [
        Row(index, 0, prompt, limit, draw) for index, (prompt, limit) in enumerate(zip(prompts, STEPS, strict=True))
    ]


def _branches(vocabulary: int) -> list[Row]:
    """Rows with a trunk of SHARED tokens."""
    draw = np.random.default_rng(1)
    trunk = draw.integers(0, vocabulary, SHARED)
    prompts = [np.concatenate([trunk, draw.integers(0, vocabulary, length)]) for length in BRANCHES]
    return [Row(len(LENGTHS) + index, 0, prompt, 3, draw) for index, prompt in enumerate(prompts)]


def _own(policy: CausalPolicy, ids: np.ndarray, count: int) -> torch.Tensor:
    """[count, V] the model's own logits at the last places of a row."""
    with attending(policy, "eager") as model:
        logits: torch.Tensor = model(input_ids=torch.from_numpy(ids)[None].to(policy.device), use_cache=False).logits
    return logits[0, -count:].float()
