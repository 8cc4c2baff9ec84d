"""A model opened for use: `sartor.load("runs/latest")` and what one does with it from Python.

Prompts are rendered and answers cut off exactly as in training and evaluation, because the same renderer does it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.formats._fields import BadRow
from sartor.data.formats._turns import messages
from sartor.data.images import every, located
from sartor.data.rows import Example, Image, Message, Origin, Row, Scored, Tagged
from sartor.errors import DataError, ModelError, Problem
from sartor.models.catalog import ModelFolder, resolve
from sartor.models.quantization import Quantization

if TYPE_CHECKING:
    from sartor.evaluate.heads import HeadMeasurer
    from sartor.generate.local import LocalGenerator
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Outcome
    from sartor.tokens.batch import Batch
    from sartor.tokens.inputs import Inputs
    from sartor.tokens.render import Renderer

Prompt = str | Sequence[Mapping[str, Any]] | Sequence[str]
"""Text that a user says, or a conversation as `[{"role": ..., "content": ...}, ...]`, whose content may hold
`{"type": "image", "path": ...}` parts for a model that sees; for a head also two texts, or words."""
TOLD = {"classes": "labels", "labels": "labels", "number": "numbers", "tags": "tags of words", "reward": "rewards"}
"""What a head tells, for people."""


class Model:
    """A model with its renderer. Everything is deterministic unless a temperature is given."""

    def __init__(self, folder: ModelFolder, policy: ModelPolicy, renderer: Renderer, *, batch: int = 16) -> None:
        self.folder, self.policy, self.renderer, self._batched = folder, policy, renderer, batch

    @cached_property
    def generator(self) -> LocalGenerator:
        """What writes its answers. Raises ModelError M174 for a model with a head, which has no words."""
        from sartor.generate.local import LocalGenerator

        self._needs_words()
        vocabulary = self.renderer.vocabulary
        pad = next((token for token in (vocabulary.pad_id, vocabulary.eos_id) if token is not None), 0)
        return LocalGenerator(self.policy, self.renderer.stop_ids, pad, self.renderer.text, self._batched)

    @cached_property
    def inputs(self) -> Inputs:
        """How it reads whole rows."""
        from sartor.flow.heads import inputs_for

        return inputs_for(self.folder, self.renderer.vocabulary)

    @cached_property
    def judge(self) -> HeadMeasurer:
        """What its head says of rows. Raises ValueError for a model that has none."""
        from sartor.evaluate.heads import HeadMeasurer

        return HeadMeasurer(self.policy, self.inputs)

    def _needs_words(self) -> None:
        head = self.policy.head
        if head is not None:
            what = f"this model tells {TOLD[head.kind]}; it has no words to say"
            raise ModelError(Problem("M174", what, file=str(self.folder.path), fix="predict, or another model"))

    def chat(self, messages: Prompt, *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0) -> str:
        """The answer to one prompt. Raises ModelError M174 for a model with a head, which has no words."""
        self._needs_words()
        found = self.predict([messages], max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return str(found[0])

    def predict(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0
    ) -> list[Any]:
        """The answer to each prompt, in the order of the prompts: a text.

        Of a model with a head: a label, a list of labels, a number, or a tag for each word. A prompt is then a text, a pair of
        texts where labels or numbers of pairs were learnt, or a list of words where tags were.
        """
        if self.policy.head is not None:
            return [said(outcome) for outcome in self.outcomes(prompts)]
        asked = [_messages(prompt) for prompt in prompts]
        ids = [self.renderer.prompt(turns).tolist() for turns in asked]
        shown = [every(turns) for turns in asked]
        made = self.generator.generate(
            ids, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, images=shown
        )
        answers = {index: text for index, text, _ in made}
        return [answers[index] for index in range(len(prompts))]

    def probabilities(self, texts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Of each label for each text: they sum to 1, or stand each for itself where a text may have several labels.

        Raises ModelError M174 for a model whose head tells no labels of texts.
        """
        head = self.policy.head
        if head is None or head.kind not in ("classes", "labels"):
            what = f"this model tells {TOLD[head.kind] if head else 'words'}, no labels of texts"
            raise ModelError(Problem("M174", what, file=str(self.folder.path), fix="predict"))
        return [shares(outcome) for outcome in self.outcomes(texts)]

    def outcomes(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """All that its head says of each prompt."""
        head = self.policy.head
        assert head is not None
        return self.judge.block([_row(prompt, place, head.kind) for place, prompt in enumerate(prompts)])

    def logprobs(self, prompt: Prompt, answer: str) -> np.ndarray:
        """[n] float32 log-probability of each token of the answer, its end-of-turn included."""
        import torch

        self._needs_words()
        turns = _messages(prompt)
        before = self.renderer.prompt(turns)
        after = np.asarray(self.renderer.completion(answer), dtype=np.int32)
        weight = np.concatenate([np.zeros(len(before), np.float32), np.ones(len(after), np.float32)])
        batch = self._batch(np.concatenate([before, after]), weight, every(turns))
        with torch.inference_mode():
            logp: np.ndarray = self.policy.logp(batch).float().cpu().numpy()
        return logp

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, H] float32, the mean of each text's last hidden states."""
        import torch

        vectors = []
        for text in texts:
            ids = np.asarray(self.renderer.vocabulary.encode(text, special=True), dtype=np.int32)
            with torch.inference_mode():
                hidden = self.policy.hidden(self._batch(ids, np.ones(len(ids), np.float32)))
            vectors.append(hidden.float().mean(dim=0).cpu().numpy())
        return np.stack(vectors)

    def _batch(self, ids: np.ndarray, weight: np.ndarray, images: tuple[Image, ...] = ()) -> Batch:
        from sartor.tokens.batch import Rendered, collate

        return collate([Rendered(ids, weight, 0, images=images)]).to(self.policy.device)


def load(reference: str | Path, *, dtype: str = "auto", device: str = "auto", root: Path | None = None) -> Model:
    """Open a run, a model folder, an adapter folder, a hub id or `sartor/nano`.

    `auto` takes the GPU if torch can use one, bfloat16 there, and float32 on a CPU; where the base was quantised for training,
    it is again, from the same type. Raises ModelError or RunError.
    """
    import torch

    from sartor.flow.prepare import renderer_for
    from sartor.models.load import load as load_policy

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = find(str(reference), root or Path.cwd())
    if dtype == "auto":
        held = Quantization.of(folder)
        dtype = held.dtype if held else "bfloat16" if device == "cuda" else "float32"
    policy = load_policy(folder, dtype="bfloat16" if dtype == "bfloat16" else "float32", device=device)
    policy.eval()
    return Model(folder, policy, renderer_for(folder))


def find(reference: str, root: Path) -> ModelFolder:
    """The model a user means; besides what `resolve` knows, `latest` and `runs/latest`, the newest run."""
    if Path(reference).name == "latest" and not (root / reference).exists():
        from sartor.store.run import find as find_run

        return resolve(str(find_run(str(root / reference), root / "runs").folder.resolve()), root)
    return resolve(reference, root)


def said(outcome: Outcome) -> str | float | list[str]:
    """What a head says in one value: the label, the labels, the number, the tags."""
    for found in (outcome.label, outcome.value):
        if found is not None:
            return found
    return list(outcome.labels if outcome.labels is not None else outcome.tags or ())


def shares(outcome: Outcome) -> dict[str, float]:
    """Probabilities of labels, rounded to what can be told."""
    return {name: round(math.exp(score), 6) for name, score in outcome.label_scores.items()}


def _row(prompt: Prompt, place: int, kind: str) -> Row:
    """A prompt as a row that a head reads; what is right of it is not known."""
    origin, answer = Origin("prompt", place + 1), Message("assistant", "0")
    if kind == "tags":
        words = prompt.split() if isinstance(prompt, str) else [str(word) for word in prompt]
        return Tagged(origin=origin, tokens=tuple(words), tags=("",) * len(words))
    texts = [prompt] if isinstance(prompt, str) else [text for text in prompt if isinstance(text, str)]
    if texts and len(texts) <= 2:
        turns = [Message("user", text) for text in texts]
        return Scored(origin=origin, messages=(*turns, answer), score=0.0)
    return Example(origin=origin, messages=(*_messages(prompt), answer))


def _messages(prompt: Prompt) -> list[Message]:
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    turns = [turn for turn in prompt if isinstance(turn, Mapping)]
    if any(isinstance(turn.get("content"), list) for turn in turns):
        return _shown(turns)
    return [Message(**{**turn, "tool_calls": tuple(turn.get("tool_calls", ()))}) for turn in turns]


def _shown(turns: list[Mapping[str, Any]]) -> list[Message]:
    """A conversation with images, whose paths are relative to where the program runs. Raises DataError."""
    try:
        return list(located(messages([dict(turn) for turn in turns], "prompt"), Path.cwd()))
    except BadRow as bad:
        raise DataError(Problem(bad.code, bad.what, fix=bad.fix)) from bad
