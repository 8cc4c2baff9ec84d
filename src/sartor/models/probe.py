"""Measures, on the model at hand, which shortcuts are exact. Never an allow-list of architectures.

Three questions, each asked with random token ids in the model's own weights: does trunk + head give the model's own logits,
do rows laid end to end leave each other alone, and can rows continue a beginning that they share?
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.models.attention import NAME
from sartor.models.head import Shape
from sartor.models.policy import CausalPolicy, Exactness
from sartor.tokens.batch import Batch, Rendered, collate, collate_shared

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTHS = (11, 5, 17, 1, 8)
BRANCHES = (9, 14, 17, 9, 12, 0)
"""Rows that begin alike: how many tokens of one trunk each of them begins with."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}
"""Largest difference of a logit, relative to the largest logit, that counts as rounding."""


def sample(vocabulary: int, lengths: tuple[int, ...], seed: int = 0) -> list[Rendered]:
    """Rows of random tokens."""
    draw = np.random.default_rng(seed)
    return [
        Rendered(draw.integers(0, vocabulary, n).astype(np.int32), np.ones(n, np.float32), index)
        for index, n in enumerate(lengths)
    ]


def _family(vocabulary: int, seed: int) -> list[Rendered]:
    """Rows that leave one trunk at several places; the first is all trunk."""
    draw = np.random.default_rng(seed)
    trunk = draw.integers(0, vocabulary, max(BRANCHES))
    rows = [np.concatenate([trunk[:length], draw.integers(0, vocabulary, n)]) for n, length in enumerate(BRANCHES)]
    return [Rendered(ids.astype(np.int32), np.ones(len(ids), np.float32), n) for n, ids in enumerate(rows)]


def _distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp_min(1e-6))


def _shapes(model: PreTrainedModel) -> list[Shape]:
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    candidates = [Shape(), Shape(softcap=softcap)]
    candidates += [Shape(scale=scale)] if scale else []
    candidates += [Shape(scale=1 / divisor)] if divisor else []
    return list(dict.fromkeys(candidates))


@torch.no_grad()
def probe(policy: CausalPolicy) -> Exactness:
    """Run the measurements and say what was found."""
    model, tolerance = policy.model, TOLERANCE[next(policy.model.parameters()).dtype]
    model.eval()
    rows, family = sample(policy.vocabulary, LENGTHS), _family(policy.vocabulary, seed=1)
    batches = [collate([row]).to(policy.device) for row in rows]
    with policy.attention("eager"):
        own = [_own_logits(model, batch) for batch in batches]
        family_own = torch.cat([_own_logits(model, collate([row]).to(policy.device)) for row in family])
    notes: list[str] = []

    head, head_error = _best_head(policy, batches, own)
    if head_error > tolerance and model.config._attn_implementation == NAME:
        model.set_attn_implementation("eager")
        notes.append("this model's attention differs from ours; its own is used")
        head, head_error = _best_head(policy, batches, own)
    if head_error > tolerance:
        head = None
        notes.append("trunk and head do not give the model's own logits; its whole forward pass is used")

    policy.exact = Exactness(packs=True, head=head)
    packing_error = _packing_error(policy, rows, torch.cat(own))
    if packing_error > tolerance and policy.bounds.chosen.name != "rows":
        policy.bounds.kernels = False
        notes.append(
            f"the attention kernel {policy.bounds.chosen.name} is not exact here; rows are computed one by one"
        )
        packing_error = _packing_error(policy, rows, torch.cat(own))
    packs = packing_error <= tolerance
    if not packs:
        notes.append("packed rows would see each other in this model; batches hold one row")
    sharing_error = _sharing_error(policy, family, family_own) if packs else float("inf")
    if packs and sharing_error > tolerance:
        notes.append(
            "rows that continue a shared beginning differ from whole rows in this model; each row is computed whole"
        )
    return replace(
        policy.exact,
        packs=packs,
        shares=sharing_error <= tolerance,
        head_error=head_error,
        packing_error=packing_error,
        sharing_error=sharing_error,
        attention=f"{policy.bounds.chosen.name} ({policy.bounds.chosen.reason})" if packs else "one row at a time",
        notes=tuple(notes),
    )


def _packing_error(policy: CausalPolicy, rows: list[Rendered], own: torch.Tensor) -> float:
    """How far logits of packed rows are from the model's own for each row alone, or from those beside other rows."""
    try:
        packed = _distance(policy.logits(collate(rows).to(policy.device)), own)
        return max(packed, _leak(policy, rows))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return float("inf")


def _sharing_error(policy: CausalPolicy, rows: list[Rendered], own: torch.Tensor) -> float:
    """How far logits of rows that share their beginnings are from the model's own for each row alone."""
    policy.exact = replace(policy.exact, shares=True)
    try:
        return _distance(policy.logits(collate_shared(rows, least=2).to(policy.device)), own)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return float("inf")


def _best_head(policy: CausalPolicy, batches: list[Batch], own: list[torch.Tensor]) -> tuple[Shape | None, float]:
    """The logit shape that comes closest to the model's own logits, and how close."""
    best: tuple[Shape | None, float] = (None, float("inf"))
    for shape in _shapes(policy.model):
        policy.exact = Exactness(head=shape)
        try:
            error = max(_distance(policy.logits(b), o) for b, o in zip(batches, own, strict=True) if len(b.at))
        except (AttributeError, RuntimeError, TypeError):
            continue
        best = min(best, (shape, error), key=lambda found: found[1])
    return best


def _leak(policy: CausalPolicy, rows: list[Rendered]) -> float:
    """How much the other rows change when the first one does."""
    changed = [replace(rows[0], ids=(rows[0].ids + 1) % policy.vocabulary), *rows[1:]]
    first = rows[0].supervised
    before, after = (policy.logits(collate(some).to(policy.device))[first:] for some in (rows, changed))
    return _distance(after, before)


def _own_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """[N, V] the model's own logits for a batch of one row."""
    logits: torch.Tensor = model(input_ids=batch.ids, use_cache=False).logits[0]
    return logits[batch.at].float()
