"""Measures, on the model at hand, which shortcuts are exact. Never an allow-list of architectures.

Three questions, each asked with random token ids in the model's own weights: does trunk + head give the model's own logits,
do rows laid end to end leave each other alone, and can rows continue a beginning that they share?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from sartor.models.attention import NAME
from sartor.models.base import Exactness, ModelPolicy
from sartor.models.head import Shape
from sartor.models.policy import CausalPolicy
from sartor.models.vision import VisionPolicy
from sartor.tokens.batch import Batch, Rendered, collate, collate_shared

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTHS = (11, 5, 17, 1, 8)
BRANCHES = (9, 14, 17, 9, 12, 0)
"""Rows that begin alike: how many tokens of one trunk each of them begins with."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}
"""Largest difference of a logit, relative to the largest logit, that counts as rounding."""


def sample(vocabulary: int, lengths: Sequence[int], seed: int = 0) -> list[Rendered]:
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


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest number."""
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
def probe(policy: ModelPolicy) -> Exactness:
    """Run the measurements and say what was found."""
    if isinstance(policy, VisionPolicy):
        return _probe_vision(policy)
    return _probe_causal(policy) if isinstance(policy, CausalPolicy) else _probe_padded(policy)


def _probe_vision(policy: VisionPolicy) -> Exactness:
    """Of models that see: do trunk and head give the model's own logits? Rows go alone whatever the answer.

    Raises ModelError M116 where the model does not take an image.
    """
    tolerance = TOLERANCE[next(policy.model.parameters()).dtype]
    policy.model.eval()
    policy.exact = Exactness()
    batches = [collate([row]).to(policy.device) for row in told_apart(policy, sample(policy.vocabulary, LENGTHS[:2]))]
    batches += policy.looks()
    own = [policy.logits(batch) for batch in batches]
    best, head_error = Exactness(), float("inf")
    for shape in _shapes(policy.model):
        policy.exact = Exactness(head=shape)
        try:
            error = max(distance(policy.logits(b), o) for b, o in zip(batches, own, strict=True))
        except (AttributeError, RuntimeError, TypeError):
            continue
        if error < head_error:
            best, head_error = policy.exact, error
    notes = ["rows with images are computed one by one"]
    if policy.processor is not None and torch.equal(*own[-2:]):
        notes.append("two images give the same logits: what this model sees changes nothing in it so far")
    if head_error > tolerance:
        best = Exactness()
        notes.append("trunk and head do not give the model's own logits; its whole forward pass is used")
    return replace(best, head_error=head_error, attention="one row at a time", notes=tuple(notes))


def _probe_causal(policy: CausalPolicy) -> Exactness:
    model, tolerance = policy.model, TOLERANCE[next(policy.model.parameters()).dtype]
    model.eval()
    rows, family = told_apart(policy, sample(policy.vocabulary, LENGTHS)), _family(policy.vocabulary, seed=1)
    family = told_apart(policy, family)
    batches = [collate([row]).to(policy.device) for row in rows]
    with policy.attention("eager"):
        own = [_own(policy, batch) for batch in batches]
        family_own = torch.cat([_own(policy, collate([row]).to(policy.device)) for row in family])
    notes: list[str] = []

    found, head_error = _best(policy, batches, own)
    if head_error > tolerance and model.config._attn_implementation == NAME:
        model.set_attn_implementation("eager")
        notes.append("this model's attention differs from ours; its own is used")
        found, head_error = _best(policy, batches, own)
    if head_error > tolerance:
        found = Exactness()
        notes.append("trunk and head do not give the model's own logits; its whole forward pass is used")

    policy.exact = replace(found, packs=True)
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
    tags = policy.head is not None and policy.head.place == "tokens"
    sharing_error = _sharing_error(policy, family, family_own) if packs and not tags else float("inf")
    if packs and not tags and sharing_error > tolerance:
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


def _probe_padded(policy: ModelPolicy) -> Exactness:
    """The same for models that take rows side by side: does padding leave rows alone, does the output layer give the logits?"""
    tolerance = TOLERANCE[next(policy.model.parameters()).dtype]
    policy.model.eval()
    rows = told_apart(policy, sample(policy.vocabulary, [length + 1 for length in LENGTHS]))
    policy.exact = Exactness()
    own = torch.cat([_told(policy, collate([row]).to(policy.device)) for row in rows])
    notes: list[str] = []
    packing_error = head_error = float("inf")
    try:
        policy.exact = Exactness(packs=True)
        packing_error = max(distance(_told(policy, collate(rows).to(policy.device)), own), _leak(policy, rows))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        notes.append("this model does not take rows side by side")
    packs = packing_error <= tolerance
    if not packs:
        notes.append("rows beside others would not be what they are alone in this model; each is computed alone")
    if policy.head is None:
        try:
            policy.exact = Exactness(packs=packs, head=Shape())
            head_error = distance(_told(policy, collate(rows).to(policy.device)), own)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            notes.append("the model's logits do not come from its output layer; its whole forward pass is used")
    return Exactness(
        packs=packs,
        head=Shape() if head_error <= tolerance else None,
        packing_error=packing_error,
        head_error=head_error,
        attention="rows side by side, padded" if packs else "one row at a time",
        notes=tuple(notes),
    )


def told_apart(policy: ModelPolicy, rows: list[Rendered]) -> list[Rendered]:
    """The rows without the tokens that mean something to a model's own forward pass, and with an end where it wants one."""
    config = policy.model.config.get_text_config()
    named = [getattr(config, f"{name}_token_id", None) for name in ("pad", "eos", "bos")]
    special = [token for entry in named for token in (entry if isinstance(entry, list) else [entry])]
    plain = next(token for token in range(policy.vocabulary) if token not in special)
    made = []
    for row in rows:
        ids = np.where(np.isin(row.ids, [token for token in special if token is not None]), plain, row.ids)
        weight = row.weight
        if policy.kind == "encoder_decoder":
            ids[-1] = plain if policy.head is None else config.eos_token_id
            weight = np.where(np.arange(len(ids)) < len(ids) // 2, 0, weight)
        made.append(replace(row, ids=ids.astype(np.int32), weight=weight.astype(np.float32)))
    return made


def _told(policy: ModelPolicy, batch: Batch) -> torch.Tensor:
    """What the policy tells of a batch: its logits at the scored places, or what its head gives."""
    return policy.logits(batch) if policy.head is None else policy.score(batch)


def _packing_error(policy: CausalPolicy, rows: list[Rendered], own: torch.Tensor) -> float:
    """How far logits of packed rows are from the model's own for each row alone, or from those beside other rows."""
    try:
        packed = distance(_told(policy, collate(rows).to(policy.device)), own)
        return max(packed, _leak(policy, rows))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return float("inf")


def _sharing_error(policy: CausalPolicy, rows: list[Rendered], own: torch.Tensor) -> float:
    """How far logits of rows that share their beginnings are from the model's own for each row alone."""
    policy.exact = replace(policy.exact, shares=True)
    try:
        return distance(_told(policy, collate_shared(rows, least=2).to(policy.device)), own)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return float("inf")


def _best(policy: CausalPolicy, batches: list[Batch], own: list[torch.Tensor]) -> tuple[Exactness, float]:
    """How trunk and head come closest to the model's own numbers, and how close."""
    shortcut = Exactness(last=len(policy.head_modules()) == 1)
    candidates = [Exactness(head=shape) for shape in _shapes(policy.model)] if policy.head is None else [shortcut]
    best = (Exactness(), float("inf"))
    for candidate in candidates:
        policy.exact = candidate
        try:
            error = max(distance(_told(policy, b), o) for b, o in zip(batches, own, strict=True) if len(o))
        except (AttributeError, RuntimeError, TypeError):
            continue
        best = min(best, (candidate, error), key=lambda found: found[1])
    return best


def _leak(policy: ModelPolicy, rows: list[Rendered]) -> float:
    """How much the other rows change when the first one does."""
    ids = rows[0].ids
    changed = [replace(rows[0], ids=np.append(np.roll(ids[:-1], 1), ids[-1:])), *rows[1:]]
    first = len(_told(policy, collate(rows[:1]).to(policy.device)))
    before, after = (_told(policy, collate(some).to(policy.device))[first:] for some in (rows, changed))
    return distance(after, before)


def _own(policy: CausalPolicy, batch: Batch) -> torch.Tensor:
    """The model's own numbers for a batch of one row: [N, V] logits, or what its head gives."""
    logits: torch.Tensor = policy.model(input_ids=batch.ids, use_cache=False).logits
    if policy.head is None:
        return logits[0][batch.at].float()
    return (logits[0] if policy.head.place == "tokens" else logits).float()
