"""Liger's kernels: refused with a reason where they cannot run, put before the right modules, and out of the way of a CPU."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import tiny
import torch

from sartor.models import liger
from sartor.models.fuse import put_before, watch
from sartor.models.hf import random_causal
from sartor.models.load import policy_of
from sartor.tokens.batch import collate


def test_a_processor_is_refused_with_a_reason():
    model = random_causal(tiny.CONFIGS["llama"], seed=0)
    before = [type(part) for part in model.modules()]
    assert liger.apply(model, lambda: None) == "plain PyTorch: Liger's kernels need a GPU, not cpu"
    assert [type(part) for part in model.modules()] == before


@pytest.mark.skipif(find_spec("liger_kernel") is not None, reason="liger-kernel is installed")
def test_a_gpu_without_the_package_is_refused_with_a_reason():
    assert liger.missing(torch.device("cuda")) == "liger-kernel is not installed"


@pytest.mark.parametrize(("name", "norms"), [("llama", 5), ("qwen3", 9), ("gemma3", 13)])
def test_norms_and_gated_blocks_are_found_and_a_processor_goes_past_them(name, norms):
    policy, batch = policy_of(random_causal(tiny.CONFIGS[name], seed=0), kernels=False), collate(tiny.rows(4))
    before = policy.logits(batch)
    done = put_before(watch(policy.model, lambda: policy.hidden(batch)), liger.candidates)
    assert done == {liger.LigerNorm: norms, liger.LigerFeedForward: 2}
    assert torch.equal(policy.logits(batch), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.skipif(find_spec("liger_kernel") is None, reason="needs liger-kernel")
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_on_a_gpu_losses_and_gradients_stay_the_same(name):
    batch, found = collate(tiny.rows(6)).to("cuda"), []
    for kernels in (False, True):
        policy = policy_of(random_causal(tiny.CONFIGS[name], seed=0), device="cuda", kernels=kernels)
        assert policy.computed_by.startswith("Liger kernels" if kernels else "plain")
        loss, gradient = tiny.gradients(policy, [batch])
        found.append((loss, gradient))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    tiny.assert_close(found[1][1], found[0][1], tolerance=1e-3)
