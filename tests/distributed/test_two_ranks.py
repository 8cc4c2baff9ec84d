"""Two processes that talk by gloo train the same weights as one, from the same checkpoints."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from sartor.events import Started

HERE = Path(__file__).parent
LIMIT = 300
CLOSE = 1e-6


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("jobs", HERE / "jobs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


jobs = _load()


def pair(folder: Path, work: Sequence[dict[str, Any]], size: int = 2) -> None:
    """Let `size` processes do the jobs, and fail with what they said where one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(HERE.parent), *sys.path])
    ranks = [
        subprocess.Popen(
            [sys.executable, str(HERE / "jobs.py"), str(folder), json.dumps(list(work))],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "PYTHONPATH": path,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        said = [rank.communicate(timeout=LIMIT)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * size, "\n".join(said)


def _job(name: str, into: str | None = None, **settings: Any) -> dict[str, Any]:
    return {"name": name, "into": into or name, **settings}


DROPOUT = {"model": "gpt2", "resid_pdrop": 0.2, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
STOP = 3
OTHERS = [
    *(("fsdp2", method) for method in ("partial", "dora", "pissa", "vera", "adapter")),
    *((strategy, method) for strategy in ("ddp", "fsdp2") for method in ("prefix", "prompt")),
]
"""Methods beside full and LoRA, each as far as something of it could differ between ranks."""
HEADS = ("llama", "bert")
"""Models whose head alone learns: one of the last place of a row, one of its first behind a pooler."""
ROUNDS = ("ppo", "rloo", "reinforce")
"""Objectives that learn from what the policy writes, beside grpo."""
BASIC = [*itertools.product(("ddp", "fsdp2"), ("full", "lora"))]
WORK = [
    *[_job(f"{strategy}-{method}", strategy=strategy, method=method) for strategy, method in BASIC],
    _job("grpo", objective="grpo"),
    _job("ddp-tight", strategy="ddp", tight=30, micro_tokens=60),
    _job("ddp-wrong", strategy="ddp", wrong=3),
    *[_job(f"{strategy}-left", strategy=strategy, stop_after=STOP) for strategy in ("ddp", "fsdp2")],
    *[_job(f"{strategy}-taken", f"alone-{strategy}", strategy=strategy, seed=5) for strategy in ("ddp", "fsdp2")],
]
LONG_WORK = [
    *[_job(f"{strategy}-{method}", strategy=strategy, method=method) for strategy, method in OTHERS],
    *[_job(f"{strategy}-few", strategy=strategy, examples=1, steps=6) for strategy in ("ddp", "fsdp2")],
    *[_job(f"{strategy}-bf16", strategy=strategy, dtype="bfloat16", steps=4) for strategy in ("ddp", "fsdp2")],
    _job("fsdp2-lora-bf16", strategy="fsdp2", method="lora", dtype="bfloat16", checkpointed=True, steps=4),
    *[
        _job(f"{strategy}-{anchor}", strategy=strategy, anchor=anchor)
        for strategy in ("ddp", "fsdp2")
        for anchor in ("l2_start", "ewc")
    ],
    *[_job(name, objective=name) for name in ROUNDS],
    *[_job(f"{strategy}-{head}", strategy=strategy, head=head) for strategy in ("ddp", "fsdp2") for head in HEADS],
    _job("ppo-ptx", objective="ppo", ptx=True),
    _job("grpo-left", objective="grpo", stop_after=STOP),
    _job("grpo-taken", "grpo-alone", objective="grpo", seed=5),
    _job("ddp-dropout", strategy="ddp", **DROPOUT),
    _job("ddp-dropout-cut", "cut", strategy="ddp", stop_after=STOP, **DROPOUT),
    _job("ddp-dropout-resumed", "cut", strategy="ddp", **DROPOUT),
]


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The jobs of the long tests, done by one pair of processes."""
    folder = tmp_path_factory.mktemp("more")
    jobs.write(folder / "grpo-alone", objective="grpo", stop_after=STOP)
    pair(folder, LONG_WORK)
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The jobs of every day, done by one pair of processes; in alone-* one process had begun."""
    folder = tmp_path_factory.mktemp("pair")
    for strategy in ("ddp", "fsdp2"):
        jobs.train(folder / f"alone-{strategy}", stop_after=STOP)
    pair(folder, WORK)
    return folder


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What one process makes of the plain job."""
    return tiny.weights(jobs.train(tmp_path_factory.mktemp("alone"))[0])


def weights(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}-{rank}.safetensors")


def events(folder: Path, name: str, rank: int = 0) -> list[Any]:
    return json.loads((folder / f"{name}-{rank}.json").read_text())


def far(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name].float() - right[name].float()).abs().max()) for name in left)


@pytest.mark.parametrize(("strategy", "method"), BASIC)
def test_two_ranks_end_with_the_weights_of_one(done, tmp_path, strategy, method):
    same_as_one(done, tmp_path, strategy, method)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "method"), OTHERS)
def test_two_ranks_end_with_the_weights_of_one_by_every_method(more, tmp_path, strategy, method):
    same_as_one(more, tmp_path, strategy, method)


def same_as_one(done: Path, tmp_path: Path, strategy: str, method: str) -> None:
    alone, taken = jobs.train(tmp_path, method=method)
    name = f"{strategy}-{method}"
    assert far(weights(done, name), tiny.weights(alone)) < CLOSE
    assert far(tiny.weights(jobs.policy(method)), tiny.weights(alone)) > 1e-3
    mine = [event.json() for event in taken]
    for rank in (0, 1):
        theirs = events(done, name, rank)
        assert [event["event"] for event in theirs] == [event["event"] for event in mine]
        for one, two in zip(mine, theirs, strict=True):
            for key in ("loss", "gradient_norm", "tokens", "supervised", "best_step", "metrics"):
                if key in one:
                    assert two[key] == pytest.approx(one[key], rel=1e-5), (one, two)


def test_two_ranks_write_and_learn_from_the_rounds_of_one(done, tmp_path):
    same_rounds(done, tmp_path, "grpo", "grpo")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ptx"), [*((name, False) for name in ROUNDS), ("ppo", True)])
def test_two_ranks_write_and_learn_from_the_rounds_of_one_by_every_objective(more, tmp_path, name, ptx):
    same_rounds(more, tmp_path, f"{name}-ptx" if ptx else name, name, ptx=ptx)


def same_rounds(done: Path, tmp_path: Path, name: str, objective: str, **settings: Any) -> None:
    alone, taken = jobs.write(tmp_path, objective=objective, **settings)
    answers = sorted(path.name for path in (tmp_path / "answers" / "rounds").iterdir())
    assert len(answers) > 1
    for each in answers:
        mine, theirs = (
            [json.loads(line) for line in (place / "answers" / "rounds" / each).read_text().splitlines()]
            for place in (tmp_path, done / name)
        )
        assert [line["answer"] for line in mine] == [line["answer"] for line in theirs]
        assert [line["reward"] for line in mine] == pytest.approx([line["reward"] for line in theirs])
    for rank in (0, 1):
        assert far(weights(done, name, rank), jobs.weights(alone)) < CLOSE
        theirs = [event for event in events(done, name, rank) if "metrics" in event]
        mine = [event.json() for event in taken]
        mine = [event for event in mine if "metrics" in event]
        assert [event["event"] for event in theirs] == [event["event"] for event in mine]
        for one, two in zip(mine, theirs, strict=True):
            assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-4, abs=1e-6), one["event"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("head", HEADS)
def test_two_ranks_train_the_head_of_one(more, tmp_path, strategy, head):
    alone, taken = jobs.sort(tmp_path, head=head)
    assert far(weights(more, f"{strategy}-{head}"), tiny.weights(alone)) < CLOSE
    losses = [event["loss"] for event in events(more, f"{strategy}-{head}") if event["event"] == "step"]
    assert losses == pytest.approx([event.loss for event in taken if hasattr(event, "loss")], rel=1e-5)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_rounds_go_on_with_another_number_of_ranks(more, tmp_path):
    whole, _ = jobs.write(tmp_path, objective="grpo")
    over, taken = jobs.write(more / "grpo-left", objective="grpo", seed=5)
    assert next(event for event in taken if isinstance(event, Started)).step == STOP
    assert far(tiny.weights(over), tiny.weights(whole)) < CLOSE
    assert events(more, "grpo-left", 1)[-1][0] == "F150"
    assert far(weights(more, "grpo-taken"), tiny.weights(whole)) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("anchor", ["l2_start", "ewc"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_an_anchor_pulls_two_ranks_as_one(more, unbroken, tmp_path, strategy, anchor):
    alone, taken = jobs.train(tmp_path, anchor=anchor)
    name = f"{strategy}-{anchor}"
    assert far(weights(more, name), tiny.weights(alone)) < CLOSE
    assert far(unbroken, tiny.weights(alone)) > 1e-4
    for rank in (0, 1):
        mine = [event.metrics["anchor"] for event in taken if hasattr(event, "gradient_norm")]
        theirs = [event["metrics"]["anchor"] for event in events(more, name, rank) if event["event"] == "step"]
        assert mine[0] == 0 < mine[-1]
        assert theirs == pytest.approx(mine, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_rank_without_rows_takes_part(more, tmp_path, strategy):
    alone, _ = jobs.train(tmp_path, examples=1, steps=6)
    assert far(weights(more, f"{strategy}-few"), tiny.weights(alone)) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp-bf16", "fsdp2-bf16", "fsdp2-lora-bf16"])
def test_bf16_keeps_fp32_masters(more, tmp_path, name):
    method = "lora" if "lora" in name else "full"
    _, taken = jobs.train(tmp_path, method=method, dtype="bfloat16", steps=4)
    losses = [event.loss for event in taken if hasattr(event, "loss")]
    assert [event["loss"] for event in events(more, name) if event["event"] == "step"] == pytest.approx(
        losses, rel=1e-3
    )
    kept = [load_file(path) for path in sorted((more / name / "step-000004").glob("weights-*.safetensors"))]
    assert {tensor.dtype for part in kept for tensor in part.values()} == {torch.float32}


def test_a_rank_without_memory_halves_the_batches_of_all(done, unbroken):
    for rank in (0, 1):
        assert any(event.get("code") == "N403" for event in events(done, "ddp-tight", rank))
        assert far(weights(done, "ddp-tight", rank), unbroken) < CLOSE


def test_copies_that_differ_are_never_saved(done):
    for rank in (0, 1):
        code, message = events(done, "ddp-wrong", rank)[-1]
        assert code == "P130"
        assert "the weights of rank 1 are not those of rank 0" in message
    assert sorted(path.name for path in (done / "ddp-wrong").iterdir() if path.is_dir()) == [
        "step-000000",
        "step-000002",
    ]


@pytest.mark.slow
def test_dropout_resumes_bit_for_bit(more):
    assert events(more, "ddp-dropout-cut", 0)[-1][0] == events(more, "ddp-dropout-cut", 1)[-1][0] == "F150"
    whole = weights(more, "ddp-dropout")
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(more, "ddp-dropout-resumed").items())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_what_two_ranks_left_one_process_takes_up(done, unbroken, strategy):
    files = sorted(path.name for path in (done / f"{strategy}-left" / f"step-{STOP:06d}").iterdir())
    shards = [f"{stem}-{rank}-of-2.safetensors" for stem in ("optimizer", "weights") for rank in (0, 1)]
    assert files == sorted(["COMPLETE", *shards, "state.json"])
    over, taken = jobs.train(done / f"{strategy}-left", seed=5)
    assert taken[0].step == STOP
    assert far(tiny.weights(over), unbroken) < CLOSE


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_what_one_process_left_two_ranks_take_up(done, unbroken, strategy):
    assert events(done, f"{strategy}-taken")[0]["step"] == STOP
    assert far(weights(done, f"{strategy}-taken"), unbroken) < CLOSE
