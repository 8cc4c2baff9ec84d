"""`sartor merge`: whole folders that plain transformers reads, lineage, refusals, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import job
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sartor.cli.main import run
from sartor.errors import ModelError, RunError
from sartor.events import Event, Noted
from sartor.flow.merge import Merged, merge, merge_adapter
from sartor.methods import lora
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.save import save_model
from sartor.store import atomic
from sartor.tokens.batch import collate

BATCH = collate(tiny.rows(4, seed=8))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("merge") / "base")


@pytest.fixture(scope="module")
def others(base: Path) -> list[Path]:
    """Two models that were moved a little from the base."""
    made = []
    for seed in (1, 2):
        folder = base.with_name(f"tuned-{seed}")
        shutil.copytree(base, folder)
        draw = torch.Generator().manual_seed(seed)
        tensors = load_file(folder / "model.safetensors")
        moved = {name: tensor + torch.randn(tensor.shape, generator=draw) / 100 for name, tensor in tensors.items()}
        save_file(moved, folder / "model.safetensors")
        made.append(folder)
    return made


@pytest.fixture(scope="module")
def adapters(base: Path) -> list[Path]:
    return [adapter(base, base.with_name(f"adapter-{seed}"), seed) for seed in (1, 2)]


def adapter(base: Path, out: Path, seed: int) -> Path:
    policy = load(resolve(str(base), base))
    lora.attach(policy, lora.Options(rank=2), seed=seed)
    for parameter in policy.trainable().values():
        parameter.data.normal_(0, 0.1)
    files = [base / "tokenizer.json", base / "tokenizer_config.json"]
    facts = {"base": str(base), "base_path": str(base), "quantization": None, "thinks": False, "best_step": 3}
    save_model(policy, out, base=base, files=files, template=job.CHATML, facts=facts)
    return out


def call(models: Sequence[Path], out: Path, events: list[Event] | None = None, **options) -> Merged:
    see = (lambda event: None) if events is None else events.append
    return merge([str(model) for model in models], out, **{"emit": see, **options})


def logits(path: Path) -> torch.Tensor:
    with torch.no_grad():
        return load(resolve(str(path), path.parent)).logits(BATCH)


def test_the_result_is_a_plain_model_folder(base: Path, others: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = call(others, out, how="linear", shares=[3, 1])
    one, two = (load_file(folder / "model.safetensors") for folder in others)
    made = load_file(out / "model.safetensors")
    assert made.keys() == one.keys()
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, 0.75 * one[name] + 0.25 * two[name])
    _, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    assert AutoTokenizer.from_pretrained(out).apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert atomic.verify(out) == []
    lineage = json.loads((out / "sartor.json").read_text())["merged"]
    assert lineage["how"] == "linear"
    assert lineage["weights"] == [0.75, 0.25] == list(found.weights)
    assert [model["path"] for model in lineage["models"]] == [str(folder) for folder in others]
    assert len({model["sha256"] for model in lineage["models"]}) == 2
    assert found.bytes == sum(tensor.nbytes for tensor in made.values())


def test_rules_from_a_base(base: Path, others: list[Path], tmp_path: Path) -> None:
    call(others, tmp_path / "task", how="task", shares=[1, -1], base=str(base))
    start, one, two = (load_file(folder / "model.safetensors") for folder in (base, *others))
    for name, tensor in load_file(tmp_path / "task" / "model.safetensors").items():
        torch.testing.assert_close(tensor, start[name] + one[name] - two[name], rtol=1e-5, atol=1e-6)
    call(others, tmp_path / "ties", how="ties", base=str(base), density=1.0)
    call(others, tmp_path / "sparse", how="ties", base=str(base))
    moved = {
        name: float((load_file(tmp_path / name / "model.safetensors")["model.norm.weight"] != start["model.norm.weight"]).float().mean())
        for name in ("ties", "sparse")
    }  # fmt: skip
    assert moved["ties"] == 1 > moved["sparse"] > 0.1
    for name in ("one", "two"):
        call(others, tmp_path / name, how="dare", base=str(base), density=0.5, seed=4)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def test_adapters_know_their_base(base: Path, adapters: list[Path], tmp_path: Path) -> None:
    found = call(adapters, tmp_path / "out", how="task", shares=[1, 1])
    assert found.base is not None
    assert found.base["path"] == str(base)
    start = load_file(base / "model.safetensors")
    parts = []
    for place, each in enumerate(adapters):
        merge_adapter(resolve(str(each), base), tmp_path / str(place))
        parts.append(load_file(tmp_path / str(place) / "model.safetensors"))
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        torch.testing.assert_close(tensor, parts[0][name] + parts[1][name] - start[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_adapter_is_a_model_in_the_type_of_its_base(dtype: torch.dtype, tmp_path: Path) -> None:
    base = job.save_model(tmp_path / "base")
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    folder = resolve(str(adapter(base, tmp_path / "adapter", 1)), tmp_path)
    out = tmp_path / "out"
    merge_adapter(folder, out)
    merge_adapter(folder, out)
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {dtype}
    torch.testing.assert_close(logits(out), logits(folder.path), rtol=0, atol=1e-5 if dtype == torch.float32 else 0.05)
    facts = json.loads((out / "sartor.json").read_text())
    assert facts["base"] == str(base)
    assert facts["thinks"] is False
    assert "quantization" not in facts
    assert facts["merged"]["models"][0]["path"] == str(folder.path)
    assert resolve(str(out), tmp_path).kind == "model"


def test_a_model_in_several_files_stays_in_them(base: Path, others: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(base, cut)
    (cut / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(others[0]).save_pretrained(cut, max_shard_size="60KB")
    files = sorted(path.name for path in cut.glob("*.safetensors"))
    assert len(files) > 1
    out = tmp_path / "out"
    call([cut, others[1]], out)
    assert sorted(path.name for path in out.glob("*.safetensors")) == files
    _, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    call(others, tmp_path / "whole")
    assert torch.equal(logits(out), logits(tmp_path / "whole"))


def test_adapters_can_stay_adapters(adapters: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = call(adapters, out, how="linear", shares=[1, 0], as_adapter=True)
    assert found.kind == resolve(str(out), tmp_path).kind == "adapter"
    torch.testing.assert_close(logits(out), logits(adapters[0]), rtol=1e-4, atol=1e-5)


REFUSED = {
    "weights are given": {"shares": [1, 2, 3], "how": "linear"},
    "same weight": {"shares": [1, 2]},
    "more than zero": {"shares": [1, -1], "how": "linear"},
    "not be negative": {"shares": [2, -1], "how": "slerp"},
    "--density has no effect": {"density": 0.5},
    "at most 1": {"density": 1.5, "how": "ties", "base": "base"},
    "--seed has no effect": {"seed": 1},
    "--base has no effect": {"base": "base"},
    "is not given": {"how": "task"},
    "of one run": {"last": 2},
}


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_cannot_act_are_refused(what: str, base: Path, others: list[Path], tmp_path: Path) -> None:
    options = {key: str(base) if value == "base" else value for key, value in REFUSED[what].items()}
    with pytest.raises(ModelError, match=f"M192.*{what}"):
        call(others, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_together_is_refused(base: Path, others: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"M192.*slerp is between two models, and 3"):
        call([base, *others], tmp_path / "out", how="slerp")
    with pytest.raises(ModelError, match=r"M192.*no other one"):
        call([base], tmp_path / "out")
    stranger = job.save_model(tmp_path / "stranger", "qwen3")
    with pytest.raises(ModelError, match=r"M191.*model_type"):
        call([base, stranger], tmp_path / "out")
    speaks = tmp_path / "speaks"
    shutil.copytree(base, speaks)
    words = json.loads((speaks / "tokenizer.json").read_text())
    ids = words["model"]["vocab"]
    first, second = [word for word in ids if len(word) == 1][:2]
    ids[first], ids[second] = ids[second], ids[first]
    (speaks / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(ModelError, match=rf"M191.*do not read text alike: the id of '{first}'"):
        call([base, speaks], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(RunError, match="F102"):
        call(others, tmp_path / "full")


def test_another_template_is_told(base: Path, others: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(others[0], other)
    (other / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    events: list[Event] = []
    call([base, other], tmp_path / "out", events)
    assert [event.code for event in events if isinstance(event, Noted)] == ["M195"]
    assert (tmp_path / "out/chat_template.jinja").read_text() == job.CHATML


def test_numbers_that_overflow_leave_nothing(base: Path, others: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="M111"):
        call(others, tmp_path / "out", how="task", shares=[1e40, 1], base=str(base))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_last_checkpoints_of_a_run(method: str, base: Path, tmp_path: Path) -> None:
    done = job.finish(tmp_path / "run", job.recipe(base, method=method, train={"checkpoint": {"keep": 3}}))
    out = tmp_path / "out"
    found = call([done.folder], out, last=3)
    assert [model["path"].rpartition("step-")[2] for model in found.models] == ["000004", "000008", "000012"]
    steps = [Path(model["path"]) for model in found.models]
    trained = [load_file(step / "weights.safetensors") for step in steps]
    made = load_file(out / "model.safetensors")
    name = "model.layers.0.mlp.down_proj"
    if method == "full":
        expected = sum(tensors[f"{name}.weight"] for tensors in trained) / 3
    else:
        updates = [2 * t[f"{name}.lora_B.default.weight"] @ t[f"{name}.lora_A.default.weight"] for t in trained]
        expected = load_file(base / "model.safetensors")[f"{name}.weight"] + sum(updates) / 3
    torch.testing.assert_close(made[f"{name}.weight"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(RunError, match=r"F110.*kept \d checkpoints, and 9"):
        call([done.folder], tmp_path / "more", last=9)
    if method == "lora":
        call([done.folder], tmp_path / "adapter", last=1, as_adapter=True)
        given, kept = (
            load_file(path / "adapter_model.safetensors") for path in (tmp_path / "adapter", done.folder / "model")
        )
        assert given.keys() == kept.keys()
        torch.testing.assert_close(
            logits(tmp_path / "adapter"), logits(resolve(str(done.folder), tmp_path).path), rtol=1e-3, atol=1e-3
        )
    damaged = steps[-1] / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="F111"):
        call([done.folder], tmp_path / "damaged", last=3)


def test_the_command(others: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["merge", *map(str, others), "--how", "slerp", "--weights", "0.5,0.5", "--out", str(tmp_path / "out")]
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "model"
    assert run([*words[:-1], str(tmp_path / "two")]) == 0
    assert "wrote the model" in capsys.readouterr().out
    assert run(words) == 2
    assert run([*words[:-1], str(tmp_path / "three"), "--weights", "a"]) == 2
