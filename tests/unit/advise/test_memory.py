"""What the formula counts against what autograd really keeps, and properties of the prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from sartor import registry
from sartor.advise import memory, shape
from sartor.advise.hardware import survey
from sartor.advise.memory import Job, Rows
from sartor.models.hf import random_causal
from sartor.models.load import policy_of
from sartor.objectives import sft
from sartor.tokens.batch import Rendered, collate

WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3}
ROW, TOKENS = 64, 512


def form_of(model: torch.nn.Module) -> shape.Shape:
    return shape.of(model.config.to_dict(), {name: tuple(p.shape) for name, p in model.named_parameters()})  # type: ignore[attr-defined]


def kept(policy: Any) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of a batch, each storage once, weights not."""
    ids = np.random.default_rng(0)
    rows = [
        Rendered(ids.integers(3, tiny.VOCABULARY, ROW).astype(np.int32), np.ones(ROW, np.float32), index)
        for index in range(TOKENS // ROW)
    ]
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    policy.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sft.loss(policy, collate(rows), sft.Options())
    return sum(storages.values())


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", sorted(tiny.CONFIGS))
def test_activations_are_counted_as_autograd_keeps_them(name: str, method: str, dtype: str, kernels: bool) -> None:
    wider = {"n_embd": 64, "n_layer": 3} if name == "gpt2" else WIDE
    model = random_causal({**tiny.CONFIGS[name], **wider}, seed=0).to(getattr(torch, dtype))
    form = form_of(model)
    policy = policy_of(model, kernels=kernels)
    module = registry.component("method", method)
    module.attach(policy, module.Options(), seed=0)
    rank = getattr(module.Options(), "rank", 0)
    job = Job(
        dtype=dtype, trainable=0, state=0, tokens=TOKENS, rows=Rows.of(np.full(8, ROW)), rank=rank,
        kernels=policy.native, tiles=survey().tiles,
    )  # fmt: skip
    head = memory.BYTES[dtype] * form.head if method == "full" else 0
    assert memory.activations(form, job) + head == pytest.approx(kept(policy), rel=0.12)


@pytest.mark.parametrize("name", sorted(tiny.CONFIGS))
def test_adapters_have_as_many_parameters_as_predicted(name: str) -> None:
    model = random_causal(tiny.CONFIGS[name], seed=0)
    form = form_of(model)
    policy = policy_of(model, kernels=False)
    lora = registry.component("method", "lora")
    lora.attach(policy, lora.Options(rank=4), seed=0)
    assert form.low_rank(4) == sum(p.numel() for p in policy.trainable().values())


@pytest.mark.parametrize("name", sorted(tiny.CONFIGS))
def test_a_shape_is_read_from_a_folder_without_loading_it(tmp_path: Path, name: str) -> None:
    tiny.save_folder(tmp_path, name)
    model = random_causal(tiny.CONFIGS[name], seed=0)
    found = shape.read(json.loads((tmp_path / "config.json").read_text()), sorted(tmp_path.glob("*.safetensors")))
    assert replace(found, stored_bytes=0) == form_of(model)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.stored_bytes > 4 * found.parameters


FORM = form_of(random_causal({**tiny.CONFIGS["llama"], **WIDE}, seed=0))
JOB = Job(
    dtype="bfloat16", trainable=FORM.parameters, state=8 * FORM.parameters, tokens=4096, rows=Rows.of(np.full(4, 300))
)


def total(**changes: Any) -> int:
    return memory.training(FORM, replace(JOB, **changes)).total


def above_start(**changes: Any) -> int:
    job = replace(JOB, **changes)
    return memory.training(FORM, job).total - memory.own(job.dtype, job.device)


def test_what_costs_memory_costs_memory() -> None:
    assert above_start(tokens=8192) > 1.5 * above_start()
    assert total(checkpointed=True) < total()
    assert total(kernels=True) < total()
    assert above_start(dtype="float32") > above_start()
    assert total(state=4 * FORM.parameters) == total() - 4 * FORM.parameters
    assert total(passes=2) >= total()
    assert total(rank=16, trainable=FORM.low_rank(16), state=0) < total()
    assert total(device="cuda") < total()


def test_shards_hold_their_part_and_one_whole_layer() -> None:
    whole, half = memory.held(FORM, JOB), memory.held(FORM, replace(JOB, shards=2))
    assert all(half[name] == pytest.approx(size * (1 / 2 + 1 / (FORM.layers + 2))) for name, size in whole.items())


def test_pages_of_files_are_reported_but_need_not_be_free() -> None:
    peak = memory.restoring(FORM, JOB)
    assert peak.total - peak.needed == 4 * FORM.parameters
    assert memory.loading(FORM, "float32", "cuda").parts["files"] == 0


def test_answers_that_the_model_writes_need_their_cache_and_their_round() -> None:
    plan = memory.Writing(rows=16, prompt=200, answer=56, kept=5000)
    peak = memory.writing(FORM, replace(JOB, writing=plan), plan)
    assert peak.parts["cache"] == 16 * 256 * 2 * FORM.layers * FORM.key * 2
    assert peak.parts["round"] == memory.ROUND_BYTES * 5000
    assert "gradients" not in peak.parts
    assert peak.parts["optimiser"] == JOB.state
    assert memory.held(FORM, replace(JOB, writing=plan))["round"] == memory.ROUND_BYTES * 5000
    assert "round" not in memory.held(FORM, JOB)
    long = memory.Writing(rows=64, prompt=400, answer=112)
    small = replace(JOB, tokens=8, rank=4, trainable=100, state=800.0)
    assert memory.largest(FORM, small).total < memory.largest(FORM, replace(small, writing=long)).total


def test_rows_are_divided_at_the_length_up_to_which_they_are_multiplied_together() -> None:
    rows = Rows.of(np.array([100, 100, 800]))
    assert rows == Rows(short=20.0, long=640.0, long_share=0.8)


def test_measuring_needs_more_with_more_rows_until_the_cache_is_full() -> None:
    def peak(rows: int, want: str = "prediction", prompt: int = 200) -> int:
        return memory.measuring(FORM, "bfloat16", want=frozenset({want}), rows=rows, prompt=prompt, answer=56).total

    assert peak(1) < peak(8) < peak(64)
    assert peak(10_000) == peak(20_000)
    assert peak(32, "nll") == peak(1, "nll")


def test_models_that_are_only_asked_are_counted_whole() -> None:
    assert total(asked=1000.0) == total() + 1000
    assert memory.held(FORM, replace(JOB, asked=1000.0, shards=4))["models asked"] == 1000
