"""Methods, objectives and kinds of models: what the page says works is trained, what it says does not is refused."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from contract.cases import POLICIES, Case

from sartor import registry
from sartor.advise import matrix
from sartor.advise.matrix import KINDS, obstacle
from sartor.models.kinds import Kind

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/matrix.md"
PLACES: dict[tuple[str, Kind], dict[str, object]] = {
    ("ia3", "encoder"): {"outputs": ("key", "value"), "inputs": ("output.dense",)},
    ("ia3", "encoder_decoder"): {"outputs": ("k", "v"), "inputs": ("wo",)},
    ("adapter", "encoder"): {"layers": ("output.dense",)},
    ("adapter", "encoder_decoder"): {"layers": ("o", "wo")},
}
"""Options of a method for the first tiny model of a kind, where it does not know the names of its parts by itself."""
CELLS = [
    (method, objective, kind)
    for method in registry.names("method")
    for objective in registry.names("objective")
    for kind in KINDS
    if obstacle(method, objective, kind) is None
]


def test_the_page_is_current() -> None:
    again = (
        'python -c "from sartor.advise import matrix; print(matrix.markdown(), end=str())" > docs/reference/matrix.md'
    )
    assert PAGE.read_text(encoding="utf-8") == matrix.markdown(), again


def test_what_does_not_work_has_a_reason() -> None:
    assert obstacle("lora", "masked_lm", "causal") == "masked_lm trains an encoder; the base is a decoder"
    assert obstacle("probe", "sft", "causal") == "method probe trains a head alone, and sft learns words"
    assert obstacle("full", "sft", "causal") is None
    assert obstacle("lora", "dpo", "vision") is None
    assert obstacle("lora", "classify", "vision") == (
        "classify trains a decoder or an encoder or an encoder-decoder; the base is a vision-text model"
    )
    told = obstacle("qlora", "sft", "vision")
    assert told == "method qlora fits a decoder or an encoder or an encoder-decoder; the base is a vision-text model"


def module_of(method: str) -> ModuleType:
    module = registry.component("method", method)
    if hasattr(module, "NEEDS"):
        pytest.importorskip(module.NEEDS[0], reason=f'needs the extra "{module.NEEDS[1]}"', exc_type=ImportError)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("method", "objective", "kind"), CELLS)
def test_every_cell_that_works_learns(method: str, objective: str, kind: Kind) -> None:
    """The loss is finite, something of what moves has a gradient, and nothing else has one."""
    module = module_of(method)
    if hasattr(module, "quantization"):
        pytest.skip("a quantised base comes from disk; tests/contract/test_methods.py trains it")
    learnt = registry.component("objective", objective)
    case = Case(learnt, sorted(learnt.TRAITS.rows)[0])
    policy = case.policy(POLICIES[kind][0])
    policy.model.requires_grad_(False)
    module.attach(policy, module.Options(**PLACES.get((method, kind), {})), seed=1)
    policy.eval()
    loss = learnt.loss(policy, case.batch(case.units(4)), case.options(), **case.roles(POLICIES[kind][0]))
    assert bool(torch.isfinite(loss.total))
    loss.total.backward()
    moving = policy.trainable()
    found = [parameter.grad for parameter in moving.values() if parameter.grad is not None]
    assert any(bool(grad.any()) for grad in found)
    still = {id(parameter) for parameter in moving.values()}
    assert all(parameter.grad is None for parameter in policy.model.parameters() if id(parameter) not in still)
