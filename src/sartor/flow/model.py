"""A model opened for use: `sartor.load("runs/latest")` and what one does with it from Python.

Prompts are rendered and answers cut off exactly as in training and evaluation, because the same renderer does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.rows import Message
from sartor.models.catalog import ModelFolder, resolve
from sartor.models.quantization import Quantization

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.protocols import TextGenerator
    from sartor.tokens.batch import Batch
    from sartor.tokens.render import Renderer

Prompt = str | Sequence[Mapping[str, Any]]
"""Text that a user says, or a conversation as `[{"role": ..., "content": ...}, ...]`."""


class Model:
    """A model with its renderer. Everything is deterministic unless a temperature is given."""

    def __init__(self, folder: ModelFolder, policy: ModelPolicy, renderer: Renderer, *, batch: int = 16) -> None:
        from sartor.generate.local import LocalGenerator

        vocabulary = renderer.vocabulary
        pad = next((token for token in (vocabulary.pad_id, vocabulary.eos_id) if token is not None), 0)
        self.folder, self.policy, self.renderer = folder, policy, renderer
        self.generator: TextGenerator = LocalGenerator(policy, renderer.stop_ids, pad, renderer.text, batch)

    def chat(self, messages: Prompt, *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0) -> str:
        """The answer to one prompt."""
        return self.predict([messages], max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)[0]

    def predict(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """The answer to each prompt, in the order of the prompts."""
        ids = [self.renderer.prompt(_messages(prompt)).tolist() for prompt in prompts]
        made = self.generator.generate(ids, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        answers = {index: text for index, text, _ in made}
        return [answers[index] for index in range(len(prompts))]

    def logprobs(self, prompt: Prompt, answer: str) -> np.ndarray:
        """[n] float32 log-probability of each token of the answer, its end-of-turn included."""
        import torch

        before = self.renderer.prompt(_messages(prompt))
        after = np.asarray(self.renderer.completion(answer), dtype=np.int32)
        weight = np.concatenate([np.zeros(len(before), np.float32), np.ones(len(after), np.float32)])
        batch = self._batch(np.concatenate([before, after]), weight)
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

    def _batch(self, ids: np.ndarray, weight: np.ndarray) -> Batch:
        from sartor.tokens.batch import Rendered, collate

        return collate([Rendered(ids, weight, 0)]).to(self.policy.device)


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


def _messages(prompt: Prompt) -> list[Message]:
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    return [Message(**{**turn, "tool_calls": tuple(turn.get("tool_calls", ()))}) for turn in prompt]
