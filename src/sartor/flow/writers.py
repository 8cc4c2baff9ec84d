"""Opens the models that make or judge data, by what a recipe calls them; each is opened once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sartor.errors import ModelError, Problem
from sartor.models.catalog import resolve
from sartor.protocols import Speaker, Writer

TOGETHER = 64
"""Questions given to a local model at a time; what it has answered before is kept."""
CLASSES = {"rewrite": "Seq2SeqLM or ConditionalGeneration", "fill": "MaskedLM"}
"""What the architecture of a model for a task is called."""


class Opener:
    """Opens models and holds them until it is told to forget them; paths start from `root`."""

    def __init__(self, root: Path) -> None:
        self._root, self._opened = root, dict[Speaker, Writer]()

    def __call__(self, speaker: Speaker) -> Writer:
        """Raises ModelError: no such model, or one of another kind (M172)."""
        if speaker not in self._opened:
            self._opened[speaker] = _opened(speaker, self._root)
        return self._opened[speaker]

    def forget(self) -> None:
        """Free the memory that the models hold."""
        self._opened.clear()


def opener(root: Path) -> Opener:
    """Opens models for as long as it lives."""
    return Opener(root)


def _opened(speaker: Speaker, root: Path) -> Writer:
    """Raises ModelError: no such model, or one of another kind (M172)."""
    if speaker.endpoint is not None:
        from sartor.generate.remote import RemoteWriter

        return RemoteWriter(speaker.endpoint, speaker.model, speaker.key, form=speaker.form)
    if speaker.task == "chat":
        return _Chat(speaker.model, root)
    folder = resolve(speaker.model, root)
    named = " ".join(map(str, folder.config.get("architectures") or ()))
    kinds = CLASSES[speaker.task].split(" or ")
    if not any(kind in named for kind in kinds):
        what = f"{speaker.model} is a {named or 'model of no named kind'}; here a {CLASSES[speaker.task]} is needed"
        raise ModelError(Problem("M172", what, file=str(folder.path), fix="name a model of that kind"))
    import torch

    from sartor.generate.rewriting import Filler, Rewriter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Rewriter(folder.path, device) if speaker.task == "rewrite" else Filler(folder.path, device)


class _Chat:
    """A causal model of this machine."""

    def __init__(self, model: str, root: Path) -> None:
        from sartor.flow.model import load

        self._model = load(model, root=root)

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        """Yields (index of the prompt, its answer). What is drawn for a prompt depends on it and the seed alone."""
        from sartor.generate.rewriting import stream

        size = 1 if temperature else TOGETHER
        for begin in range(0, len(prompts), size):
            given = prompts[begin : begin + size]
            own = stream(seed, given[0]) if temperature else seed
            made = self._model.predict(given, max_new_tokens=max_new_tokens, temperature=temperature, seed=own)
            yield from enumerate(made, begin)
