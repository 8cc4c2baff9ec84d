"""transformers alone, as a stranger opens a model folder: its own tokenizer, template, weights and generation defaults.

Nothing of models/hf.py is used, so that what is certified is what others get.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.export.replay import Unopened

if TYPE_CHECKING:
    from sartor.export.probes import Probe


class Plain:
    """Implements `Runtime` on a folder. Products are in `dtype`; the weights are as they lie there."""

    def __init__(self, folder: Path, *, dtype: str = "float32") -> None:
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self._torch = torch
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        wrong = sorted(str(key) for name in ("missing_keys", "mismatched_keys") for key in info[name])
        if wrong:
            raise Unopened(f"weights are missing or of another shape: {', '.join(wrong[:3])}")
        self.model = model.eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._name = f"transformers {transformers.__version__} on the CPU in {dtype}"

    @property
    def name(self) -> str:
        """transformers, and how it computes."""
        return self._name

    @property
    def stops(self) -> Sequence[int]:
        """What its generation defaults say."""
        ends = self.model.generation_config.eos_token_id
        return [] if ends is None else [int(end) for end in (ends if isinstance(ends, list) else [ends])]

    def prompt(self, probe: Probe) -> list[int]:
        """By the folder's own template."""
        more: dict[str, Any] = {"tools": [dict(tool) for tool in probe.tools]} if probe.tools else {}
        turns = [dict(turn) for turn in probe.messages]
        ids = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False, **more)
        if ids != list(probe.ids):
            calm = self.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=False, enable_thinking=False, **more
            )
            ids = calm if calm == list(probe.ids) else ids
        return [int(token) for token in ids]

    def logits(self, ids: Sequence[int], last: int) -> np.ndarray:
        """[last, V] fp32"""
        with self._torch.inference_mode():
            made = self.model(input_ids=self._torch.tensor([list(ids)]), logits_to_keep=last, use_cache=False)
        found: np.ndarray = made.logits[0, -last:].float().numpy()
        return found

    def generate(self, ids: Sequence[int], most: int) -> list[int]:
        """With its own generation defaults, greedily."""
        given = self._torch.tensor([list(ids)])
        with self._torch.inference_mode():
            made = self.model.generate(
                given, attention_mask=self._torch.ones_like(given), max_new_tokens=most, do_sample=False,
                temperature=None, top_p=None, top_k=None, pad_token_id=self.tokenizer.pad_token_id or 0,
            )  # fmt: skip
        return [int(token) for token in made[0, len(ids) :]]
