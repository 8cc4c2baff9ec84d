"""How much prompts help: the ratio of losses, against a plain computation with the model itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sartor.cli.main import run
from sartor.data.rows import Example, Message, Origin
from sartor.flow.difficulty import answer_alone, losses
from sartor.flow.prepare import renderer_for
from sartor.models.catalog import resolve
from sartor.models.load import load


def test_both_renderings_score_the_same_tokens_and_losses_are_the_models_own(byte_model: Path) -> None:
    folder = resolve(str(byte_model), Path("/"))
    renderer, policy = renderer_for(folder), load(folder)
    turns = (
        Message("user", "one"),
        Message("assistant", "first"),
        Message("user", "two"),
        Message("assistant", "last"),
    )
    made = answer_alone(renderer, Example(origin=Origin("a", 1), messages=turns), 0)
    assert made is not None
    whole, alone = made
    assert renderer.decode([whole.ids[whole.weight > 0].tolist()]) == ["last<|im_end|>"]
    assert renderer.decode([alone.ids.tolist()]) == ["<|im_start|>assistant\nlast<|im_end|>"]
    assert alone.ids[alone.weight > 0].tolist() == whole.ids[whole.weight > 0].tolist()
    for row in made:
        ids = torch.tensor(row.ids.astype(np.int64))[None]
        with torch.no_grad():
            logp = policy.model(input_ids=ids).logits[0].log_softmax(-1)
        places = np.flatnonzero(row.weight)
        expected = -np.mean([float(logp[at - 1, row.ids[at]]) for at in places])
        assert losses(policy, [row])[0] == pytest.approx(expected, abs=1e-4)


def test_the_command(
    byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"question {n * 7919} about {n}", "completion": f"it is {n * 31}"} for n in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(f"base: {byte_model}\ndata: a.jsonl\n")
    assert run(["data", "check", "r.yaml", "--difficulty", "--json", "--html", "page.html"]) == 0
    told = json.loads(capsys.readouterr().out)["profile"]["difficulty"]
    assert told["rows"] == 24
    assert sum(told["histogram"]["counts"]) == 24
    ratios = [row["ifd"] for row in told["hardest"]]
    assert ratios == sorted(ratios, reverse=True)
    first = told["hardest"][0]
    assert first["ifd"] == pytest.approx(first["with_prompt"] / first["without_prompt"], abs=1e-3)
    assert '"difficulty":{"model"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert run(["data", "check", "r.yaml", "--difficulty"]) == 0
    assert " IFD " in capsys.readouterr().out


def test_raw_texts_have_no_prompt(
    byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"text {n * 7919} number {n}"}) + "\n" for n in range(30))
    )
    (tmp_path / "r.yaml").write_text(f"base: {byte_model}\ndata: a.jsonl\n")
    assert run(["data", "check", "r.yaml", "--difficulty"]) == 2
    assert "D182" in capsys.readouterr().err
