"""Our own loader, renderer and generation: what `sartor chat`, `predict` and `serve` use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor import __version__
from sartor.data.rows import Message
from sartor.models.catalog import ModelFolder, resolve
from sartor.models.quantization import Quantization
from sartor.tokens.render import Renderer
from sartor.tokens.template import PLAIN, ChatTemplate
from sartor.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from sartor.export.probes import Probe
    from sartor.models.base import ModelPolicy


class Own:
    """Implements `Runtime` on a model or an adapter folder, in the type the base is held in, else in fp32."""

    def __init__(self, folder: Path) -> None:
        found = resolve(str(folder.resolve()), Path("/"))
        held = Quantization.of(found)
        self.dtype = held.dtype if held else "float32"
        self.policy = opened(found)
        self.renderer = _renderer(found)
        from sartor.generate.local import LocalGenerator

        pad = self.renderer.vocabulary.pad_id or 0
        self._generator = LocalGenerator(self.policy, self.renderer.stop_ids, pad, self.renderer.text, 1)

    @property
    def name(self) -> str:
        """Sartor, and how it computes."""
        return f"sartor {__version__} on the CPU in {self.dtype}"

    @property
    def stops(self) -> Sequence[int]:
        """What its template says."""
        return sorted(self.renderer.stop_ids)

    def prompt(self, probe: Probe) -> list[int]:
        """By the folder's own template."""
        turns = [_message(turn) for turn in probe.messages]
        ids: list[int] = self.renderer.prompt(turns, probe.tools).tolist()
        return ids

    def logits(self, ids: Sequence[int], last: int) -> np.ndarray:
        """[last, V] fp32"""
        return last_logits(self.policy, ids, last)

    def generate(self, ids: Sequence[int], most: int) -> list[int]:
        """Greedily."""
        (one,) = self._generator.complete([list(ids)], max_new_tokens=most)
        return list(one.ids)


def opened(folder: ModelFolder) -> ModelPolicy:
    """The model, ready to be asked; a quantised base in the type it was rounded from."""
    from sartor.models.load import load

    held = Quantization.of(folder)
    policy = load(folder, dtype=held.dtype if held else "float32", kernels=False)
    policy.eval()
    return policy


def last_logits(policy: ModelPolicy, ids: Sequence[int], last: int) -> np.ndarray:
    """[last, V] fp32 logits after each of the last `last` ids."""
    import torch

    from sartor.tokens.batch import Rendered, collate

    weight = np.zeros(len(ids) + 1, np.float32)
    weight[-last:] = 1.0
    batch = collate([Rendered(np.asarray([*ids, 0], np.int32), weight, 0)]).to(policy.device)
    with torch.inference_mode():
        found: np.ndarray = policy.logits(batch).float().cpu().numpy()
    return found


def _message(turn: object) -> Message:
    assert isinstance(turn, dict)
    body = dict(turn)
    reasoning = body.pop("reasoning_content", None)
    return Message(**{**body, "reasoning": reasoning, "tool_calls": tuple(body.get("tool_calls", ()))})


def _renderer(folder: ModelFolder) -> Renderer:
    """Made of what lies in the folder alone."""
    vocabulary = Vocabulary.load(folder.path)
    facts = folder.path / "sartor.json"
    told = json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}
    template = ChatTemplate(vocabulary.template or PLAIN, vocabulary.named, label=str(folder.path))
    return Renderer(vocabulary, template, **{key: told[key] for key in ("thinks", "reasoning") if key in told})


def in_fp32(policy: ModelPolicy) -> None:
    """Compute in fp32 from now on, with the numbers that the weights stand for as they are held: four bits stay four bits."""
    import torch

    from sartor.models.quantized import dequantised, is_packed

    model = policy.model
    named = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    for name, held in [(name, part) for name, part in named if is_packed(part.weight)]:
        weight = dequantised(held.weight).float()
        whole = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=held.bias is not None)
        whole.weight = torch.nn.Parameter(weight, requires_grad=False)
        if held.bias is not None:
            whole.bias = torch.nn.Parameter(held.bias.detach().float(), requires_grad=False)
        model.set_submodule(name, whole)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
