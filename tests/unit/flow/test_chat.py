"""`sartor chat`: what is streamed is what is answered, every speaker has its own memory, the base speaks beside the tuned."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import sartor
from sartor.cli.main import run
from sartor.data.rows import Message
from sartor.errors import ModelError
from sartor.flow.chat import Chat, speakers
from sartor.models.adapters import inject_lora
from sartor.models.save import save_model


@pytest.fixture(scope="module")
def adapter(byte_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on the byte model that changes what it says."""
    import torch

    model = sartor.load(byte_model)
    inject_lora(model.policy, rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear", rslora=False, seed=1)
    with torch.no_grad():
        for parameter in model.policy.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    folder = tmp_path_factory.mktemp("tuned") / "model"
    save_model(
        model.policy,
        folder,
        base=byte_model,
        files=model.renderer.vocabulary.files,
        template=model.renderer.template.source,
        facts={"base": str(byte_model), "base_path": str(byte_model)},
    )
    return folder


def test_what_is_streamed_is_what_is_answered(byte_model: Path) -> None:
    chat = Chat(speakers(str(byte_model), None), max_new_tokens=12, temperature=1.5, seed=3)
    heard: list[tuple[str, str]] = []
    answers = chat.ask("hello", lambda name, piece: heard.append((name, piece)))
    assert "".join(piece for _, piece in heard) == answers[str(byte_model)].text
    assert len(heard) > 1
    assert {name for name, _ in heard} == {str(byte_model)}


def test_each_turn_sees_the_ones_before(byte_model: Path) -> None:
    chat = Chat(speakers(str(byte_model), None), system="be brief", max_new_tokens=6)
    first = chat.ask("one")[str(byte_model)]
    second = chat.ask("two")[str(byte_model)]
    model = sartor.load(byte_model)
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}]
    assert first.text == model.chat(turns, max_new_tokens=6)
    turns += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "two"}]
    assert second.text == model.chat(turns, max_new_tokens=6)
    chat.reset()
    assert chat.ask("one")[str(byte_model)] == first


def test_the_base_of_an_adapter_speaks_beside_it(byte_model: Path, adapter: Path) -> None:
    chat = Chat(speakers(str(adapter), None), max_new_tokens=8)
    answers = chat.ask("hello")
    assert list(answers) == ["base", "tuned"]
    assert answers["base"].text == sartor.load(byte_model).chat("hello", max_new_tokens=8)
    assert answers["tuned"].text == sartor.load(adapter).chat("hello", max_new_tokens=8)
    assert answers["base"].text != answers["tuned"].text


def test_a_tuned_model_names_its_base(byte_model: Path, other_model: Path, tmp_path: Path) -> None:
    import shutil

    tuned = shutil.copytree(other_model, tmp_path / "tuned")
    (tuned / "sartor.json").write_text(json.dumps({"base": str(byte_model)}))
    answers = Chat(speakers(str(tuned), None), max_new_tokens=8).ask("hello")
    assert answers["base"].text == sartor.load(byte_model).chat("hello", max_new_tokens=8)
    assert [speaker.name for speaker in speakers(str(tuned), "none")] == ["tuned"]
    assert [speaker.name for speaker in speakers(str(byte_model), str(other_model))] == [
        str(other_model),
        str(byte_model),
    ]
    with pytest.raises(ModelError, match="M151"):
        speakers(str(byte_model), "base")


def test_the_oldest_turns_are_forgotten_when_the_window_is_full(byte_model: Path) -> None:
    chat = Chat(speakers(str(byte_model), None), max_new_tokens=20)
    name = str(byte_model)
    chat.speakers[0].said += [Message("user", "a" * 60), Message("assistant", "b" * 60)] * 2
    answer = chat.ask("hello")[name]
    assert answer.forgotten == 2
    with pytest.raises(ModelError, match="M150"):
        chat.ask("x" * 300)
    assert chat.ask("hello")[name].text


def test_command_answers_what_comes_through_a_pipe(
    byte_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["chat", str(byte_model), "--against", str(byte_model), "--max-new-tokens", "4"]
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\n/reset\ntwo\n/nonsense\n/quit\nthree\n"))
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [turn["user"] for turn in found["turns"]] == ["one", "two"]
    monkeypatch.setattr("sys.stdin", io.StringIO("/system be brief\none\n"))
    assert run(arguments) == 0
    assert all(f"{name}: " in said for said in [capsys.readouterr().out] for name in (byte_model, f"{byte_model} (2)"))
