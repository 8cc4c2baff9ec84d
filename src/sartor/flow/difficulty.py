"""How much a prompt helps the base model to the answer: IFD, the ratio of the answer's loss with and without its prompt.

Li et al. 2024, "From Quantity to Quality: Boosting LLM Performance with Self-Guided Data Selection for Instruction
Tuning", equations 1 to 3: IFD = loss(answer | prompt) / loss(answer), mean -log p per token. Near 0 the prompt gives the
answer away; at 1 and above it does not help, as where prompt and answer do not belong together. Departure: without its
prompt the answer keeps the template's mark of who speaks, so that the same tokens are scored both times and the first one
has something to be predicted from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.dataset import Dataset
from sartor.data.profile import Histogram, short, whole_of
from sartor.data.rows import Example
from sartor.data.sampling import sample
from sartor.data.split import Splits
from sartor.errors import DataError, Problem
from sartor.events import Event, Progressed
from sartor.models.catalog import resolve
from sartor.tokens.batch import Rendered
from sartor.tokens.render import Renderer

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.recipe.load import Loaded

ROWS = 256
"""Training rows that are measured; of more, a fixed sample."""
TOGETHER = 32
LISTED = 20
MARK = 16
"""Tokens before an answer among which the mark of who speaks is looked for."""


def measure(
    loaded: Loaded, dataset: Dataset, splits: Splits, renderer: Renderer, emit: Callable[[Event], None]
) -> dict[str, Any]:
    """``{"model", "rows", "above_one", "histogram", "hardest": [{row, where, text, ifd, with_prompt, without_prompt}]}``.

    Losses are nats per token of the last answer. Raises ModelError for a model that cannot be read, DataError D182 where no
    row has a prompt and an answer.
    """
    import torch

    from sartor.models.load import load

    base = loaded.recipe.base
    rows = sample(dataset, ROWS, splits.indices("train"))
    pairs = []
    for number in rows:
        row = dataset[number]
        if isinstance(row, Example) and row.prompt_text().strip():
            made = answer_alone(renderer, row, number)
            if made is not None:
                pairs.append((number, *made))
    if not pairs:
        fix = "give rows with a prompt and an answer"
        raise DataError(Problem("D182", "no row has a prompt that could help to its answer", fix=fix))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = resolve(base.model, loaded.root, revision=base.revision)
    policy = load(folder, dtype="bfloat16" if device == "cuda" else "float32", device=device)
    measured = []
    for begin in range(0, len(pairs), TOGETHER):
        emit(Progressed("measuring difficulty", begin, len(pairs)))
        together = pairs[begin : begin + TOGETHER]
        given_prompt = losses(policy, [whole for _, whole, _ in together])
        measured.append((given_prompt, losses(policy, [bare for _, _, bare in together])))
    given, alone = (np.concatenate(side) for side in zip(*measured, strict=True))
    ratio = given / np.maximum(alone, 1e-6)
    histogram = Histogram.of(ratio, "IFD")
    assert histogram is not None
    hardest = [
        {
            "row": pairs[at][0],
            "where": str(dataset.origin(pairs[at][0])),
            "text": short(whole_of(dataset[pairs[at][0]])),
            "ifd": round(float(ratio[at]), 4),
            "with_prompt": round(float(given[at]), 4),
            "without_prompt": round(float(alone[at]), 4),
        }
        for at in np.argsort(-ratio, kind="stable")[:LISTED].tolist()
    ]
    return {
        "model": base.model,
        "rows": len(pairs),
        "above_one": int((ratio >= 1).sum()),
        "histogram": asdict(histogram),
        "hardest": hardest,
    }


def answer_alone(renderer: Renderer, row: Example, number: int) -> tuple[Rendered, Rendered] | None:
    """The row with weight on its last answer only, and that answer without what was asked; None for a row that is refused.

    Both score the same tokens.
    """
    (result,) = renderer.render_many([(number, row)])
    if isinstance(result, Problem) or not result.rendered:
        return None
    whole = result.rendered[-1]
    learnt = np.flatnonzero(whole.weight)
    if len(learnt) < 2 or learnt[0] == 0:
        return None
    breaks = np.flatnonzero(np.diff(learnt) > 1)
    answer = learnt[breaks[-1] + 1 :] if len(breaks) else learnt
    weight = np.zeros(len(whole), np.float32)
    weight[answer] = 1
    begin = _mark(renderer, whole.ids, int(answer[0]))
    end = int(answer[-1]) + 1
    return Rendered(whole.ids, weight, number), Rendered(whole.ids[begin:end], weight[begin:end], number)


def losses(policy: ModelPolicy, rows: Sequence[Rendered]) -> NDArray[np.float64]:
    """[n] nats per scored token of each row."""
    from sartor.evaluate.likelihood import likelihood

    nll, tokens = likelihood(policy, rows)
    mean: NDArray[np.float64] = nll / np.maximum(tokens, 1)
    return mean


def _mark(renderer: Renderer, ids: NDArray[np.int32], start: int) -> int:
    """Where the template begins to say who answers: the nearest control token before the answer, or the token before it."""
    special = set(renderer.vocabulary.special_tokens.values())
    for at in range(start - 1, max(-1, start - 1 - MARK), -1):
        if int(ids[at]) in special:
            return at
    return start - 1
