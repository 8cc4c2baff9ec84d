"""Distillation against torch's own divergences on whole logits, with gradients."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch.nn.functional import kl_div

from sartor.models.still import Still
from sartor.objectives import _divergence, distill
from sartor.tokens.batch import collate

BATCH = collate(tiny.rows(7, seed=2))
KINDS = ("forward", "reverse", "jensen_shannon")


def plain(q: torch.Tensor, p: torch.Tensor, kind: str, beta: float) -> torch.Tensor:
    """[n] the divergence by torch."""

    def kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return kl_div(other, one, log_target=True, reduction="none").sum(dim=1)

    middle = (beta * p.exp() + (1 - beta) * q.exp()).log()
    return {
        "forward": kl(p, q),
        "reverse": kl(q, p),
        "jensen_shannon": beta * kl(p, middle) + (1 - beta) * kl(q, middle),
    }[kind]


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_whole_logits(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_divergence, "PLACES", 5)
    student, teacher = tiny.policy(name), Still(tiny.policy(name, seed=5))
    student.model.requires_grad_(True)
    options = distill.Options(teacher="x", temperature=2.0, divergence=kind, beta=0.3, mix=0.25)
    found = distill.loss(student, BATCH, options, teacher=teacher)
    found.total.backward()
    gradients = {key: each.grad.clone() for key, each in student.trainable().items() if each.grad is not None}
    student.model.zero_grad()
    logits, taught = student.logits(BATCH), teacher.logits(BATCH)
    each = plain((logits.double() / 2).log_softmax(1), (taught.double() / 2).log_softmax(1), kind, 0.3)
    nll = torch.nn.functional.cross_entropy(logits, BATCH.target, reduction="none")
    wanted = (BATCH.weight * (0.75 * 4 * each + 0.25 * nll)).sum()
    wanted.backward()
    assert float(found.total) == pytest.approx(float(wanted), rel=1e-4)
    assert float(found.metrics["divergence"]) == pytest.approx(float((BATCH.weight * each).sum()), rel=1e-3)
    assert gradients
    for key, parameter in student.trainable().items():
        if parameter.grad is not None:
            scale = float(parameter.grad.abs().max()) + 1e-12
            assert float((gradients[key] - parameter.grad).abs().max()) < 1e-4 * scale + 1e-7, key


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_to_be_learnt_from_itself(kind: str) -> None:
    student = tiny.policy("llama")
    student.model.requires_grad_(True)
    found = distill.loss(
        student, BATCH, distill.Options(teacher="x", divergence=kind), teacher=Still(tiny.policy("llama"))
    )
    found.total.backward()
    assert abs(float(found.total)) < 1e-4
    assert max(float(p.grad.abs().max()) for p in student.trainable().values() if p.grad is not None) < 1e-4


def test_between_forward_and_reverse() -> None:
    """Hand-computed: p = (3/4, 1/4), q = (1/2, 1/2)."""
    p, q = (torch.tensor([values]).log() for values in ([0.75, 0.25], [0.5, 0.5]))
    assert float(_divergence.forward(q, p)) == pytest.approx(0.130812, abs=1e-6)
    assert float(_divergence.reverse(q, p)) == pytest.approx(0.143841, abs=1e-6)
    assert float(_divergence.jensen_shannon(q, p, 0.5)) == pytest.approx(0.033822, abs=1e-6)
