"""Every named loss equals torch's, or its formula written out, in value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sartor.objectives import _losses


def drawn(rows: int = 7, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (3 * torch.randn(rows, width)).requires_grad_(), torch.randint(0, width, (rows,))


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, of, retain_graph=True)
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothed_cross_entropy_is_the_written_out_formula(smoothing: float) -> None:
    logits, target = drawn()
    logp = logits.log_softmax(dim=1)
    expected = -(1 - smoothing) * logp[torch.arange(7), target] - smoothing / 5 * logp.sum(dim=1)
    found = _losses.cross_entropy(logits, target, smoothing=smoothing)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(gradient(found.sum(), logits), gradient(expected.sum(), logits), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_loss_is_equation_5(gamma: float) -> None:
    """FL(p) = -(1 - p)^gamma log(p), Lin et al. 2017; its gradient reaches both factors."""
    logits, target = drawn()
    p = logits.softmax(dim=1)[torch.arange(7), target]
    expected = -((1 - p) ** gamma) * p.log()
    found = _losses.focal_cross_entropy(logits, target, gamma=gamma)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(gradient(found.sum(), logits), gradient(expected.sum(), logits), atol=1e-5)
    assert torch.equal(_losses.focal_cross_entropy(logits, target), _losses.cross_entropy(logits, target))


def test_focal_loss_is_finite_where_the_model_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    found = _losses.focal_cross_entropy(logits, torch.tensor([0, 0]), gamma=0.5)
    assert bool(torch.isfinite(found).all())
    assert float(found[0].detach()) == 0.0
    assert bool(torch.isfinite(gradient(found.sum(), logits)).all())


def test_binary_losses_are_torchs_and_the_focal_formula() -> None:
    logits, _ = drawn()
    target = (torch.rand(7, 5) > 0.5).float()
    p = torch.where(target > 0.5, logits.sigmoid(), 1 - logits.sigmoid())
    plain, focused = _losses.binary(logits, target), _losses.binary(logits, target, gamma=2.0)
    assert torch.allclose(plain, -p.log(), atol=1e-5)
    assert torch.allclose(plain, functional.binary_cross_entropy_with_logits(logits, target, reduction="none"))
    assert torch.allclose(focused, -((1 - p) ** 2) * p.log(), atol=1e-5)


def test_losses_of_numbers() -> None:
    values, target = torch.tensor([0.0, 0.5, -3.0]), torch.tensor([0.0, 0.0, 1.0])
    assert _losses.squared(values, target).tolist() == [0.0, 0.25, 16.0]
    assert _losses.absolute(values, target).tolist() == [0.0, 0.5, 4.0]
    assert _losses.huber(values, target, delta=2.0).tolist() == [0.0, 0.125, 2 * (4 - 1)]
    np.testing.assert_allclose(
        _losses.huber(values, target, delta=1.0), functional.smooth_l1_loss(values, target, reduction="none")
    )
