"""The only file that imports llama_cpp: llama.cpp itself, by its plain C interface, with the template in the file.

Extra buffers are off: with them llama.cpp crashes on processors with AMX when weights are quantised. The cache is fp32, so that
what is measured is the rounding of the weights.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.export.replay import Unopened

if TYPE_CHECKING:
    from sartor.export.probes import Probe

F32 = 0
"""GGML's number for it."""
OFF, ERROR = 0, 4


class Llama:
    """Implements `Runtime` on a GGUF file. Raises Unopened where llama.cpp does not take it."""

    def __init__(self, file: Path, *, context: int, threads: int = 1) -> None:
        import llama_cpp
        from llama_cpp import llama_chat_format

        self._said: list[str] = []
        self._hears = llama_cpp.llama_log_callback(self._hear)
        llama_cpp.llama_log_set(self._hears, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._library: Any = llama_cpp
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts, params.n_gpu_layers = False, 0
        model = llama_cpp.llama_model_load_from_file(str(file).encode(), params)
        if not model:
            raise Unopened(f"llama.cpp does not load the file: {'; '.join(self._said) or 'it does not say why'}")
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._count = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self._size = min(context, int(llama_cpp.llama_model_n_ctx_train(model)))
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx = wanted.n_batch = wanted.n_ubatch = self._size
        wanted.n_seq_max = 1
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.type_k = wanted.type_v = F32
        wanted.flash_attn_type, wanted.swa_full = OFF, True
        self._context = llama_cpp.llama_init_from_model(model, wanted)
        if not self._context:
            raise Unopened("llama.cpp makes no context for the file")
        self._batch = llama_cpp.llama_batch_init(self._size, 0, 1)
        source = llama_cpp.llama_model_chat_template(model, None)
        self._adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocabulary))
        self._bos = self._text(llama_cpp.llama_vocab_bos(self._vocabulary))
        eos = self._text(llama_cpp.llama_vocab_eos(self._vocabulary))
        self._template = None
        if source:
            self._template = llama_chat_format.Jinja2ChatFormatter(
                template=source.decode(), eos_token=eos, bos_token=self._bos, add_generation_prompt=True
            )
        self._past = 0
        self.name = f"llama.cpp (llama-cpp-python {llama_cpp.__version__}) on the CPU"

    @property
    def stops(self) -> Sequence[int]:
        """Every token at which llama.cpp ends an answer."""
        ends = self._library.llama_vocab_is_eog
        return [token for token in range(self._count) if ends(self._vocabulary, token)]

    def prompt(self, probe: Probe) -> list[int]:
        """As llama.cpp's server does: the template's text, its beginning-of-text token once, control tokens as such."""
        if self._template is None:
            raise Unopened("the file holds no chat template")
        more = {"tools": [dict(tool) for tool in probe.tools]} if probe.tools else {}
        text = self._template(messages=[dict(turn) for turn in probe.messages], **more).prompt
        if self._adds_bos and self._bos:
            text = text.removeprefix(self._bos)
        return self._tokens(text)

    def logits(self, ids: Sequence[int], last: int) -> np.ndarray:
        """[last, V] fp32"""
        self._forget()
        self._decode(ids, last)
        return np.stack([self._at(len(ids) - last + place) for place in range(last)])

    def generate(self, ids: Sequence[int], most: int) -> list[int]:
        """Greedily, until an end-of-generation token."""
        self._forget()
        self._decode(ids, 1)
        made: list[int] = []
        at = len(ids) - 1
        while len(made) < most:
            token = int(self._at(at).argmax())
            made.append(token)
            if self._library.llama_vocab_is_eog(self._vocabulary, token) or len(ids) + len(made) >= self._size:
                break
            self._decode([token], 1)
            at = 0
        return made

    def _hear(self, level: int, text: bytes, data: object) -> None:
        """Keep what is told of errors; the rest is nobody's concern here."""
        if level == ERROR:
            self._said.append(text.decode(errors="replace").strip())

    def _text(self, token: int) -> str:
        found = self._library.llama_vocab_get_text(self._vocabulary, token) if token >= 0 else b""
        return str(found.decode()) if found else ""

    def _tokens(self, text: str) -> list[int]:
        content = text.encode()
        most = len(content) + 8
        room = (ctypes.c_int32 * most)()
        count = self._library.llama_tokenize(self._vocabulary, content, len(content), room, most, True, True)
        return list(room[:count])

    def _forget(self) -> None:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
        self._past = 0

    def _decode(self, ids: Sequence[int], last: int) -> None:
        if self._past + len(ids) > self._size:
            raise Unopened(f"{self._past + len(ids)} tokens do not fit into the context of {self._size}")
        batch = self._batch
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, self._past + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = place >= len(ids) - last
        batch.n_tokens = len(ids)
        if self._library.llama_decode(self._context, batch):
            raise Unopened("llama.cpp could not compute a prompt")
        self._past += len(ids)

    def _at(self, place: int) -> np.ndarray:
        found = self._library.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(found, shape=(self._count,)).copy()
