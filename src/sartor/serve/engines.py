"""Other servers for big loads: the exact command that serves a model folder, or its GGUF file, with its template, adapter and context."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join, quote

from sartor.errors import InputError, Problem

MERGE = "sartor export MODEL --as merged, then serve that folder"


@dataclass(frozen=True, slots=True)
class Work:
    """What another server is to serve."""

    name: str
    """By which requests ask for it."""
    folder: Path | None
    """Full weights in Hugging Face's format; of an adapter its base. None: there is a GGUF file alone."""
    host: str
    port: int
    context: int
    """Tokens of prompt and answer together, at most."""
    adapter: Path | None = None
    template: Path | None = None
    """The chat template as a file of its own."""
    gguf: Path | None = None
    """The same model as one file."""
    modelfile: Path | None = None
    """Beside `gguf`, for Ollama."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    serve: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set for all of it."""
    then: Sequence[str] = ()
    """What is run once it listens."""

    @property
    def text(self) -> str:
        """For a shell."""
        words = [f"{name}={quote(value)}" for name, value in self.environment.items()]
        line = " ".join([*words, join(self.serve)])
        return f"{line} &\n{' '.join([*words, join(self.then)])}" if self.then else line


def vllm(work: Work) -> Command:
    """`vllm serve`: PEFT's LoRA over the base."""
    rank = _rank(work, "vllm")
    line = ["vllm", "serve", _weights(work, "vllm"), "--host", work.host, "--port", str(work.port)]
    line += ["--max-model-len", str(work.context)]
    line += [] if work.template is None else ["--chat-template", str(work.template)]
    if work.adapter is None or rank is None:
        line += ["--served-model-name", work.name]
    else:
        line += [
            "--enable-lora",
            "--max-lora-rank",
            str(_allowed(rank)),
            "--lora-modules",
            f"{work.name}={work.adapter}",
        ]
    return Command(line)


def sglang(work: Work) -> Command:
    """`python -m sglang.launch_server`: PEFT's LoRA over the base."""
    rank = _rank(work, "sglang")
    line = ["python", "-m", "sglang.launch_server", "--model-path", _weights(work, "sglang")]
    line += ["--host", work.host, "--port", str(work.port), "--context-length", str(work.context)]
    line += [] if work.template is None else ["--chat-template", str(work.template)]
    if work.adapter is None or rank is None:
        line += ["--served-model-name", work.name]
    else:
        line += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-paths", f"{work.name}={work.adapter}"]
    return Command(line)


def llama_cpp(work: Work) -> Command:
    """`llama-server`: one GGUF file with tokenizer and template inside."""
    gguf = _one_file(work, "llama.cpp")
    line = ["llama-server", "--model", str(gguf), "--alias", work.name, "--host", work.host, "--port", str(work.port)]
    return Command([*line, "--ctx-size", str(work.context), "--jinja"])


def ollama(work: Work) -> Command:
    """`ollama serve`, and `ollama create` from the Modelfile beside the GGUF file."""
    gguf = _one_file(work, "ollama")
    if work.modelfile is None:
        raise _refused("V142", f"there is no Modelfile beside {gguf}", "sartor export MODEL --as gguf writes one")
    environment = {"OLLAMA_HOST": f"{work.host}:{work.port}", "OLLAMA_CONTEXT_LENGTH": str(work.context)}
    return Command(["ollama", "serve"], environment, ["ollama", "create", work.name, "-f", str(work.modelfile)])


ENGINES: Mapping[str, Callable[[Work], Command]] = {
    "vllm": vllm,
    "sglang": sglang,
    "llama.cpp": llama_cpp,
    "ollama": ollama,
}


def _rank(work: Work, engine: str) -> int | None:
    """Of the adapter; None where there is none. Raises InputError V140 for an adapter that this engine cannot put on a base."""
    if work.adapter is None:
        return None
    path = work.adapter / "adapter_config.json"
    if not path.exists():
        raise _refused("V140", f"{engine} cannot serve this adapter: it is of a kind that PEFT does not have", MERGE)
    facts = json.loads(path.read_text())
    kind = str(facts.get("peft_type"))
    beyond = [key for key in ("use_dora", "alora_invocation_tokens", "trainable_token_indices") if facts.get(key)]
    beyond += [key for key in ("modules_to_save", "rank_pattern", "alpha_pattern") if facts.get(key)]
    beyond += [] if facts.get("bias", "none") == "none" else ["bias"]
    if kind != "LORA" or beyond:
        what = f"{kind} adapters" if kind != "LORA" else f"LoRA with {beyond[0]}"
        advice = (
            MERGE
            if kind not in ("PROMPT_TUNING", "PREFIX_TUNING")
            else "sartor serve MODEL, which can; no weights hold it"
        )
        raise _refused("V140", f"{engine} cannot serve {what} over a base", advice)
    return int(facts["r"])


def _allowed(rank: int) -> int:
    """vLLM takes only some ranks; the smallest that is enough. Raises InputError V140 beyond them."""
    found = next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), None)
    if found is None:
        raise _refused("V140", f"vllm serves ranks up to 512, not {rank}", MERGE)
    return found


def _weights(work: Work, engine: str) -> str:
    if work.folder is None:
        raise _refused("V141", f"{engine} is given a model folder, not a GGUF file", "name the folder")
    return str(work.folder)


def _one_file(work: Work, engine: str) -> Path:
    if work.gguf is None:
        raise _refused(
            "V141", f"{engine} serves a GGUF file, and there is none", "sartor export MODEL --as gguf, then serve that"
        )
    return work.gguf


def _refused(code: str, what: str, fix: str) -> InputError:
    return InputError(Problem(code, what, fix=fix))
