"""How much memory training and generation take, from the shape of the model. All sizes in bytes.

What is held throughout follows from counting: weights, fp32 masters, gradients and the optimiser's state. What a backward
pass needs is counted tensor by tensor (`KEPT`): how many numbers of each kind a token leaves behind in a layer, with our
compiled kernels and without. Four numbers are measured instead (`FITTED`), by `benchmarks/memory.py --fit`.

b: bytes of a number of the compute type, T: tokens of a micro-batch, V: vocabulary, H: hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from sartor.advise.shape import Shape

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SHORT = 256
"""Rows up to this length are multiplied together where there is no kernel, which keeps their shares (models/attention.py)."""
FILES = "files"
"""The part of a peak that the system takes back by itself when memory becomes scarce."""
LOGITS = {True: 1 << 25, False: 1 << 23}
"""Logits held at once in training, with kernels and without (models/head.py)."""
CACHE_PLACES = 1 << 15
"""Places of the cache of keys and values, at most, where one row does not need more (generate/engine.py)."""
JOINING_TOKENS = 1 << 13
"""Tokens of joining prompts in one pass, at most (generate/engine.py)."""
LABEL_LOGITS = 1 << 26
"""Logits held at once when labels are scored (evaluate/labels.py)."""
PACKED_TOKENS = {"cpu": 8192, "cuda": 32768}
"""Tokens of a forward pass without gradients (evaluate/likelihood.py)."""


NORM = {True: (1.0, 0.0, 0.0), False: (0.0, 1.0, 1.0)}
"""Numbers a norm keeps for each one it takes, with kernels and without: of its input, of a wide copy in fp32, and of the
normalised input where the norm's weight is trained."""
FEED_FORWARD = {True: 3.0, False: 4.0}
"""Numbers of the intermediate width that a gated feed-forward part keeps: gate, what goes up, their product and, without
kernels, the activated gate."""
PLAIN_FEED_FORWARD = {"gelu_new": 5.0, "gelu_fast": 5.0}
"""The same without a gate: two, and more for activations that are written out in Python."""
SHARES = {False: 1.0, True: 4.0}
"""Shares of attention that are kept of short rows where there is no kernel, without dropout and with it."""
DROPPED_SHARES = 13.0
"""Bytes of a share of attention in a long row with dropout, which no fused kernel takes on a CPU."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is measured instead of counted."""

    process: int
    """Python, torch and transformers themselves, once they have worked."""
    products: int
    """What oneDNN keeps on a CPU for products in bf16: a compiled kernel for each shape."""
    working: float
    """Tensors as wide as the widest of a layer that exist beside the kept ones while a layer runs backwards."""
    spare: float
    """Memory the allocator holds on a CPU for each byte of activations and working space that is in use."""


FITTED = Fitted(process=510 << 20, products=130 << 20, working=3.0, spare=1.25)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the lengths of the rows mean for attention. `short` are rows up to SHORT tokens."""

    short: float
    """Places of its row that a token looks at, summed over tokens of short rows, per token of all rows."""
    long: float
    """The same of long rows."""
    long_share: float
    """Tokens of long rows per token of all rows."""

    @classmethod
    def of(cls, lengths: np.ndarray) -> Rows:
        """From the length in tokens of every row."""
        every = lengths.astype(float)
        short, long = every[lengths <= SHORT], every[lengths > SHORT]
        total = max(1.0, float(every.sum()))
        return cls(float((short**2).sum()) / total, float((long**2).sum()) / total, float(long.sum()) / total)


ROUND_BYTES = 24
"""Of a token of a round that is learnt from: its number, and what policy, reference, advantages and values say of it."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Answers that the model writes itself while it trains."""

    rows: int
    """Answers written at once."""
    prompt: int
    """Tokens of the longest prompt."""
    answer: int
    """Tokens of the longest answer."""
    kept: int = 0
    """Tokens of answers and prompts that are held from one writing to the next."""


@dataclass(frozen=True, slots=True)
class Job:
    """What training does, as far as it decides memory."""

    dtype: str
    trainable: int
    state: float
    """Bytes of optimiser state in all."""
    tokens: int
    """T"""
    rows: Rows
    scored: float = 1.0
    """Share of the tokens that carry loss."""
    rank: int = 0
    """Of low-rank updates; 0: the weights themselves move."""
    passes: int = 1
    """Micro-batches of an optimiser step."""
    checkpointed: bool = False
    dropout: bool = False
    """Whether there is dropout inside of attention."""
    kernels: bool = False
    """Whether our compiled kernels may run norms, gates and the head."""
    tiles: bool = False
    """Whether the processor has what the compiled attention needs."""
    device: str = "cpu"
    weight_bytes: float | None = None
    """Bytes of a parameter of a linear layer, where the method holds them in another type than `dtype`."""
    shards: int = 1
    """Processes that each hold a part of the weights and of all that belongs to them; one layer is whole while it computes."""
    asked: float = 0.0
    """Bytes of models that are only asked: a reference that no adapter spares, a teacher. Every process has all of them."""
    writing: Writing | None = None
    """Answers that the model writes itself."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest memory in use, and what it is made of."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """The sum of the parts, as the system reports it."""
        return sum(self.parts.values())

    @property
    def needed(self) -> int:
        """What has to be free: pages of files can be dropped."""
        return self.total - self.parts.get(FILES, 0)


def weight_bytes(form: Shape, dtype: str, linear: float | None = None) -> int:
    """The model itself; `linear` bytes a parameter of a linear layer where these are held in another type."""
    each = BYTES[dtype]
    return (
        form.parameters * each if linear is None else int(form.linear * linear + (form.parameters - form.linear) * each)
    )


def kept_by_layer(form: Shape, job: Job) -> float:
    """Bytes that one token leaves in one layer for the backward pass."""
    b, full = BYTES[job.dtype], job.rank == 0
    normed = form.norms * form.hidden + (form.query + form.key if form.head_norms else 0)
    taken, wide, trained = (1.0, 0.0, 0.0) if form.centred else NORM[job.kernels]
    by_norm = taken * b + wide * 4 + (trained * (4 if form.wide_norms else b) if full else 0)
    numbers = float(2 * form.hidden + 2 * form.query + 2 * form.key + job.rank * len(form.linears))
    if form.gated:
        numbers += FEED_FORWARD[job.kernels and "gate_proj" in form.linears] * form.intermediate
    else:
        numbers += PLAIN_FEED_FORWARD.get(form.activation, 2.0) * form.intermediate
    return normed * by_norm + numbers * b + _attention(form, job)


def _attention(form: Shape, job: Job) -> float:
    """Bytes that one token leaves inside of attention, queries, keys, values and the result not counted."""
    b = BYTES[job.dtype]
    dropped = job.dropout or form.dropout > 0
    if job.tiles and job.kernels and b == 2 and not dropped:
        return 4 * form.heads
    short = b * SHARES[dropped] * job.rows.short
    long = DROPPED_SHARES * job.rows.long if dropped else 0.0
    return form.heads * (short + long) + b * job.rows.long_share * form.query


def activations(form: Shape, job: Job) -> float:
    """Bytes that a forward pass leaves for the backward pass."""
    b = BYTES[job.dtype]
    layer = kept_by_layer(form, job)
    layers = form.layers * b * form.hidden + layer if job.checkpointed else form.layers * layer
    around = 2 * b * form.hidden + 2 * job.scored * b * form.hidden
    return job.tokens * (layers + around)


def widest(form: Shape) -> int:
    """Numbers of the widest tensor of a layer for one token."""
    return max(form.intermediate, form.hidden, form.query)


def largest(form: Shape, job: Job, fitted: Fitted = FITTED) -> Peak:
    """The peak of reading the base, of an optimiser step, of writing answers, or of reading the best checkpoint, whichever is highest."""
    peaks = [loading(form, job.dtype, job.device, fitted), training(form, job, fitted), restoring(form, job, fitted)]
    if job.writing is not None:
        peaks.append(writing(form, job, job.writing, fitted))
    return max(peaks, key=lambda peak: peak.total)


def restoring(form: Shape, job: Job, fitted: Fitted = FITTED) -> Peak:
    """The peak of reading the best weights after the last step: on a CPU the pages of their file count as well."""
    kept = {name: int(size) for name, size in held(form, job).items() if name != "gradients"}
    files = 4 * job.trainable if job.device == "cpu" else 0
    return Peak({"process": own(job.dtype, job.device, fitted), **kept, FILES: files})


def own(dtype: str, device: str, fitted: Fitted = FITTED) -> int:
    """What the process takes before it holds a model; a GPU's memory holds none of it."""
    if device != "cpu":
        return 0
    return fitted.process + (fitted.products if BYTES[dtype] == 2 else 0)


def held(form: Shape, job: Job) -> dict[str, float]:
    """Weights, masters, optimiser state and gradients: what training holds whatever the batch."""
    b = BYTES[job.dtype]
    parts = {
        "weights": weight_bytes(form, job.dtype, job.weight_bytes) + (job.trainable * b if job.rank else 0.0),
        "masters": 4.0 * job.trainable if b < 4 else 0.0,
        "optimiser": job.state,
        "gradients": 4.0 * job.trainable,
    }
    if job.shards > 1:
        parts = {name: size / job.shards + size / (form.layers + 2) for name, size in parts.items()}
    if job.writing is not None and job.writing.kept:
        parts["round"] = float(ROUND_BYTES * job.writing.kept)
    return parts | ({"models asked": job.asked} if job.asked else {})


def writing(form: Shape, job: Job, plan: Writing, fitted: Fitted = FITTED) -> Peak:
    """The peak of answering prompts between two steps: all that is held but gradients, the cache of keys and values, a pass."""
    asked = measuring(
        form,
        job.dtype,
        want=frozenset({"prediction"}),
        rows=plan.rows,
        prompt=plan.prompt,
        answer=plan.answer,
        device=job.device,
        linear=job.weight_bytes,
        fitted=fitted,
    )
    kept = {name: int(size) for name, size in held(form, job).items() if name != "gradients"}
    return Peak({**asked.parts, **kept})


def training(form: Shape, job: Job, fitted: Fitted = FITTED) -> Peak:
    """The peak of an optimiser step."""
    b, full, on_cpu = BYTES[job.dtype], job.rank == 0, job.device == "cpu"
    logits = min(LOGITS[job.kernels], job.tokens * job.scored * form.vocabulary) * (b if job.kernels else b + 4)
    head = form.head if full else 0
    beside = 0 if job.kernels and job.tiles else b
    arriving = b + 4 if form.tied and b < 4 else b
    parts = held(form, job)
    gradients = parts.pop("gradients")
    kept = activations(form, job)
    backward = fitted.working * b * widest(form) * job.tokens
    into = gradients if job.passes > 1 else 0.0
    moments = {
        "forward through the head": (into, kept, logits + head * (4 + beside)),
        "backward through the last layer": (max(into, 4.0 * head / job.shards), kept, backward),
        "backward through the first layer": (
            gradients,
            job.tokens * kept_by_layer(form, job),
            backward + head * arriving,
        ),
        "the optimiser": (gradients, 0.0, 0.0),
    }
    spare = fitted.spare if on_cpu else 1.0
    summed, waiting, working = max(moments.values(), key=lambda moment: moment[0] + spare * (moment[1] + moment[2]))
    parts |= {"gradients": summed, "activations": spare * waiting, "workspace": spare * working}
    return Peak({"process": own(job.dtype, job.device, fitted), **{name: int(size) for name, size in parts.items()}})


def loading(form: Shape, dtype: str, device: str = "cpu", fitted: Fitted = FITTED) -> Peak:
    """The peak of reading the base: on a CPU the pages of its files count as well."""
    files = form.stored_bytes if device == "cpu" else 0
    return Peak({"process": own(dtype, device, fitted), "weights": weight_bytes(form, dtype), FILES: files})


def measuring(
    form: Shape,
    dtype: str,
    *,
    want: frozenset[str],
    rows: int,
    prompt: int,
    answer: int,
    device: str = "cpu",
    linear: float | None = None,
    fitted: Fitted = FITTED,
) -> Peak:
    """The peak of measuring a model: likelihoods (nll), scores of labels (label), and answers (prediction).

    `rows` of `prompt` tokens are answered at once with up to `answer` tokens each. `linear` as in `weight_bytes`.
    """
    b, on_cpu = BYTES[dtype], device == "cpu"
    at_once = min(rows, max(1, CACHE_PLACES // (prompt + answer)))
    cache = at_once * (prompt + answer) * 2 * form.layers * form.key * b if "prediction" in want else 0
    passes = {
        "nll": (max(prompt, PACKED_TOKENS[device]), LOGITS[False]),
        "label": (max(prompt, PACKED_TOKENS[device]), LABEL_LOGITS),
        "prediction": (max(prompt, min(at_once * prompt, JOINING_TOKENS)), at_once * form.vocabulary),
    }
    wide = fitted.working * widest(form) + 4 * form.hidden
    working = max(
        (tokens * b * wide + logits * (b + 4) for name, (tokens, logits) in passes.items() if name in want), default=0
    )
    return Peak(
        {
            "process": own(dtype, device, fitted),
            "weights": weight_bytes(form, dtype, linear),
            "cache": int(cache),
            "workspace": int((fitted.spare if on_cpu else 1.0) * working),
        }
    )
