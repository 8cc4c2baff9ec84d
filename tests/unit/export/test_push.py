"""What goes to the hub: certified files without paths of this machine, and nothing that holds a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import exported
import huggingface_hub
import job
import pytest

from sartor.errors import ModelError
from sartor.export import certificate
from sartor.flow.export import Artifact, Exported
from sartor.flow.push import pushed


@pytest.fixture
def made(tmp_path: Path) -> Exported:
    """An adapter with its certificate."""
    given = exported.subject(exported.adapter(job.save_model(tmp_path / "base"), tmp_path / "tuned"))
    folder = exported.made("adapter", given, tmp_path / "out")
    found = exported.certified("adapter", given, folder)
    (folder / certificate.FILE).write_text(certificate.dumps(found))
    return Exported("tuned", (Artifact("adapter", folder, "certified", found),))


def names(told: Exported) -> list[str]:
    assert told.push is not None
    return [file["name"] for file in told.push["files"]]


def quiet(event: object) -> None:
    """Shows nothing."""


def test_a_dry_run_lists_and_sends_nothing(made: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    told = pushed(made, "me/model", dry_run=True, emit=quiet)
    assert "adapter_model.safetensors" in names(told)
    assert "certified.json" in names(told)
    assert certificate.FILE not in names(told)


def test_paths_of_this_machine_stay_here(made: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Hub:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            assert (name, private, exist_ok) == ("me/model", True, True)

        def create_commit(self, name: str, operations: list[Any], *, commit_message: str) -> None:
            sent.extend(operations)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    told = pushed(made, "me/model", dry_run=False, emit=quiet)
    assert sorted(one.path_in_repo for one in sent) == sorted(names(told))
    for one in sent:
        with one.as_file() as file:
            assert str(tmp_path).encode() not in file.read(), one.path_in_repo


def test_a_secret_is_not_sent(made: Exported) -> None:
    (made.artifacts[0].folder / "chat_template.jinja").write_text("hf_" + "a1B2" * 8)
    with pytest.raises(ModelError, match=r"M205.*Hugging Face token"):
        pushed(made, "me/model", dry_run=True, emit=quiet)


@pytest.mark.parametrize("name", ["model", "../model", "me/model/x", "me/"])
def test_a_name_is_a_user_and_a_model(made: Exported, name: str) -> None:
    with pytest.raises(ModelError, match="M205"):
        pushed(made, name, dry_run=True, emit=quiet)


def test_what_failed_is_not_sent(made: Exported) -> None:
    one = made.artifacts[0]
    failed = certificate.Certificate("adapter", "float32", "x", tuple(certificate.unopened("x")), {})
    with pytest.raises(ModelError, match="M205"):
        pushed(
            Exported("x", (Artifact("adapter", one.folder, "failed", failed),)), "me/model", dry_run=True, emit=quiet
        )


def test_a_certificate_on_the_hub_tells_its_checks(made: Exported, tmp_path: Path) -> None:
    from sartor.export.hub import files

    (told,) = [file for file in files(made.artifacts[0].folder, "") if file.name == "certified.json"]
    body = json.loads(told.content or b"")
    assert body["pass"] is True
    assert {"KL max", "greedy", "prompt"} <= {check["name"] for check in body["checks"]}
