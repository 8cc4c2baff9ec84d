"""The commands of other servers, word by word, and what they cannot serve."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import job
import pytest
from click.testing import CliRunner

from sartor.cli import serve as cli
from sartor.errors import SartorError
from sartor.flow.engines import command, start
from sartor.serve.engines import Command


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("models") / "tiny")


def adapter(base: Path, folder: Path, **facts: object) -> Path:
    folder.mkdir()
    settings = {"base_model_name_or_path": str(base), "peft_type": "LORA", "r": 12, **facts}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def told(engine: str, path: Path, name: str | None = "m", context: int | None = 128) -> list[str]:
    return list(command(engine, name, str(path), host="127.0.0.1", port=8001, context=context).serve)


def test_a_model_folder(base: Path) -> None:
    template = ["--chat-template", str(base / "chat_template.jinja")] if (base / "chat_template.jinja").exists() else []
    common = ["--host", "127.0.0.1", "--port", "8001"]
    name = ["--served-model-name", "m"]
    assert told("vllm", base) == ["vllm", "serve", str(base), *common, "--max-model-len", "128", *template, *name]
    launch = ["python", "-m", "sglang.launch_server", "--model-path", str(base)]
    assert told("sglang", base) == [*launch, *common, "--context-length", "128", *template, *name]
    assert told("vllm", base, None, None)[-1] == "tiny"


def test_an_adapter_over_its_base(base: Path, tmp_path: Path) -> None:
    folder = adapter(base, tmp_path / "a")
    vllm, sglang = told("vllm", folder), told("sglang", folder)
    assert vllm[2] == sglang[4] == str(base)
    assert vllm[-5:] == ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"m={folder}"]
    assert sglang[-5:] == ["--enable-lora", "--max-lora-rank", "12", "--lora-paths", f"m={folder}"]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"peft_type": "OFT"}, "OFT"),
        ({"peft_type": "PROMPT_TUNING"}, "no weights hold it"),
    ],
)
def test_what_an_engine_cannot_serve_is_refused_by_name(
    base: Path, tmp_path: Path, engine: str, facts: dict[str, object], why: str
) -> None:
    with pytest.raises(SartorError, match="V140") as refused:
        told(engine, adapter(base, tmp_path / "a", **facts))
    assert why in str(refused.value) + str(refused.value.problems[0].fix)


def test_one_file(base: Path, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    found = told("llama.cpp", tmp_path)
    assert found == ["llama-server", "--model", str(tmp_path / "model.gguf"), "--alias", "m", "--host", "127.0.0.1", "--port", "8001",
                     "--ctx-size", "128", "--jinja"]  # fmt: skip
    with pytest.raises(SartorError, match="V142"):
        told("ollama", tmp_path)
    (tmp_path / "Modelfile").touch()
    made = command("ollama", "m", str(tmp_path), host="127.0.0.1", port=8001, context=128)
    environment = "OLLAMA_HOST=127.0.0.1:8001 OLLAMA_CONTEXT_LENGTH=128"
    assert made.text == f"{environment} ollama serve &\n{environment} ollama create m -f {tmp_path / 'Modelfile'}"
    with pytest.raises(SartorError, match="V141"):
        told("llama.cpp", base)


def test_only_this_machine(base: Path) -> None:
    with pytest.raises(SartorError, match="V144"):
        command("vllm", None, str(base), host="0.0.0.0", port=8001, context=None)


def test_it_is_started_where_it_is_installed(tmp_path: Path) -> None:
    script = "import os, pathlib; pathlib.Path(os.environ['WHERE']).write_text('ran'); raise SystemExit(3)"
    assert start(Command([sys.executable, "-c", script], {"WHERE": str(tmp_path / "x")})) == 3
    assert (tmp_path / "x").read_text() == "ran"
    with pytest.raises(SartorError, match="V143"):
        start(Command(["no-such-program"]))


def test_the_command_line_prints_it(base: Path) -> None:
    found = CliRunner().invoke(cli.command, [f"m={base}", "--engine", "vllm", "--port", "8001"])
    assert found.exit_code == 0
    assert found.output.startswith(f"vllm serve {base} --host 127.0.0.1 --port 8001")
    assert CliRunner().invoke(cli.command, [str(base), "--start"]).exit_code == 2
