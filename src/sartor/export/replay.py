"""Asks an artifact every probe through its own runtime, in a process of its own: it may crash, and its memory is its own.

python -m sartor.export.replay EXPORTER FOLDER PROBES OUT
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sartor import registry
from sartor.errors import SartorError
from sartor.export.probes import Probe, Probes, kept

TOLD, FIRST = "replay.json", "first.safetensors"
SAID = 2000
"""Characters of what a crashed runtime said that are kept."""


class Runtime(Protocol):
    """A program with the artifact open in it."""

    @property
    def name(self) -> str:
        """The program with its version, and how it computes."""
        ...

    @property
    def stops(self) -> Sequence[int]:
        """Ids at which it ends an answer by itself."""
        ...

    def prompt(self, probe: Probe) -> list[int]:
        """Ids of the probe's conversation by the artifact's own template and tokenizer."""
        ...

    def logits(self, ids: Sequence[int], last: int) -> np.ndarray:
        """[last, V] fp32, what it expects after each of the last `last` ids."""
        ...

    def generate(self, ids: Sequence[int], most: int) -> list[int]:
        """Its greedy answer, the token that ended it included."""
        ...


@dataclass(frozen=True, slots=True)
class Replayed:
    """What an artifact did. Lists have one entry for each probe."""

    runtime: str
    stops: tuple[int, ...]
    prompts: tuple[tuple[int, ...] | None, ...]
    """Ids by its own template; None where the probe is raw text."""
    first: np.ndarray
    """[P, V] fp32, after the prompt."""
    forced: tuple[tuple[int, ...], ...]
    """The likeliest token at each place of the source's own answer."""
    nll: tuple[float, ...]
    """Of the right answer."""
    generated: tuple[tuple[int, ...], ...]
    tokens_per_second: float
    seconds_to_open: float
    peak_memory_bytes: int


class Unopened(Exception):
    """The runtime did not open the artifact, or broke; the text says how."""


def replay(runtime: Runtime, probes: Probes, *, seconds_to_open: float = 0.0) -> Replayed:
    """Ask every probe."""
    prompts, forced, nll, generated, first = [], [], [], [], []
    tokens, seconds = 0, 0.0
    for place, probe in enumerate(probes.each):
        prompts.append(tuple(runtime.prompt(probe)) if probe.messages else None)
        count = len(probe.answer)
        at = runtime.logits([*probe.ids, *probe.answer[:-1]], count)
        forced.append(tuple(int(token) for token in at.argmax(axis=1)))
        if place < len(probes.first):
            first.append(at[0].astype(np.float32))
        right = runtime.logits([*probe.ids, *probe.reference[:-1]], len(probe.reference)).astype(np.float64)
        top = right.max(axis=1, keepdims=True)
        total = np.log(np.exp(right - top).sum(axis=1)) + top[:, 0]
        nll.append(float((total - right[np.arange(len(right)), list(probe.reference)]).sum()))
        began = time.monotonic()
        answer = runtime.generate(list(probe.ids), probes.max_new_tokens)
        seconds += time.monotonic() - began
        tokens += len(answer)
        generated.append(tuple(answer))
    return Replayed(
        runtime.name, tuple(sorted(runtime.stops)), tuple(prompts), np.stack(first), tuple(forced), tuple(nll),
        tuple(generated), tokens / seconds if seconds else 0.0, seconds_to_open,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )  # fmt: skip


def replay_apart(exporter: str, folder: Path, probes: Path, scratch: Path) -> Replayed:
    """`replay` in a process of its own. Raises Unopened where it ends badly."""
    words = [sys.executable, "-m", "sartor.export.replay", exporter, str(folder), str(probes), str(scratch)]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(  # noqa: S603  a list; no word of it is an option
        words, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, errors="replace"
    )
    if done.returncode:
        how = (
            f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with exit code {done.returncode}"
        )
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise Unopened(f"{how}: {(lines[-1] if lines else 'it said nothing')[-SAID:]}")
    return _read(scratch)


def _write(found: Replayed, folder: Path) -> None:
    from safetensors.numpy import save_file

    body: dict[str, Any] = {name: getattr(found, name) for name in Replayed.__slots__ if name != "first"}
    (folder / TOLD).write_text(json.dumps(body), encoding="utf-8")
    save_file({"first": np.ascontiguousarray(found.first)}, folder / FIRST)


def _read(folder: Path) -> Replayed:
    from safetensors.numpy import load_file

    body = json.loads((folder / TOLD).read_text(encoding="utf-8"))
    deep = {
        name: tuple(None if one is None else tuple(one) for one in body[name])
        for name in ("prompts", "forced", "generated")
    }
    body |= deep | {"stops": tuple(body["stops"]), "nll": tuple(body["nll"])}
    return Replayed(**body, first=load_file(folder / FIRST)["first"])


def main(words: Sequence[str]) -> int:
    """Replay as the module's docstring says."""
    exporter, folder, probes, out = words
    began = time.monotonic()
    try:
        runtime = registry.component("exporter", exporter).runtime(Path(folder))
        _write(replay(runtime, kept(Path(probes)), seconds_to_open=time.monotonic() - began), Path(out))
    except SartorError as fault:
        sys.stderr.write(f"{' '.join(str(fault).split())}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
