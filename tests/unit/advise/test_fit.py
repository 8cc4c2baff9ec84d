"""What is proposed where training does not fit: the first change in the order of cost that makes it fit, and its number."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sartor.advise import fit, memory
from sartor.advise.fit import Plan
from sartor.advise.hardware import Hardware
from sartor.advise.memory import Job, Rows
from sartor.advise.shape import Shape, of
from sartor.console import size


def model(layers: int = 30, hidden: int = 576, vocabulary: int = 49152) -> Shape:
    """A Llama as its files would describe it; the default is a SmolLM2 of 135M parameters."""
    wide = hidden * 8 // 3
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        path = f"model.layers.{layer}"
        tensors |= {f"{path}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qo"}
        tensors |= {f"{path}.self_attn.{name}_proj.weight": (hidden // 3, hidden) for name in "kv"}
        tensors |= {f"{path}.mlp.{name}_proj.weight": (wide, hidden) for name in ("gate", "up")}
        tensors |= {f"{path}.mlp.down_proj.weight": (hidden, wide)}
        tensors |= {f"{path}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    config = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": hidden // 64, "vocab_size": vocabulary,
        "num_key_value_heads": hidden // 192, "intermediate_size": wide, "model_type": "llama", "hidden_act": "silu",
    }  # fmt: skip
    return of(config, tensors)


FORM = model()


def plan(
    form: Shape = FORM, *, dtype: str = "float32", longest: int = 512, optimizer: str = "adamw", **changes: object
) -> Plan:
    state = fit.state_bytes(optimizer, form, form.parameters, 0)
    job = Job(
        dtype=dtype,
        trainable=form.parameters,
        state=state,
        tokens=longest,
        rows=Rows.of(np.array([longest])),
        kernels=True,
    )
    return Plan(form, replace(job, **changes), longest, 8192, optimizer)


def machine(gigabytes: float) -> Hardware:
    return Hardware("cpu", 2, int(gigabytes * 1e9), "amx_bf16", "a processor")


def proposed(at: Plan, gigabytes: float, wanted: int = 8192, *, open_size: bool = False) -> str:
    (problem,) = fit.refuse(at, machine(gigabytes), wanted, open_size=open_size).problems
    assert problem.code == "M131"
    assert size(gigabytes * 1e9) in problem.what
    assert problem.fix is not None
    return problem.fix


COST = {"train.gradient_checkpointing": 2, "base.dtype": 3, "method": 6, "train.optimizer": 8, "data.max_tokens": 12}


@pytest.mark.parametrize("at", [plan(longest=2048), plan(dtype="bfloat16", longest=600)], ids=["float32", "bfloat16"])
def test_the_less_memory_there_is_the_more_the_proposal_costs(at: Plan) -> None:
    found = [proposed(at, gigabytes) for gigabytes in np.arange(at.peak(8192).needed / 1e9, 0.3, -0.4)]
    assert found[0].startswith("train.micro_batch_tokens: ")
    assert found[-1].startswith("free some memory")
    ends = next(place for place, fix in enumerate(found) if fix.startswith("a base"))
    costs = [sum(cost for word, cost in COST.items() if f"{word}: " in fix) for fix in found[:ends]]
    assert costs == sorted(costs)
    assert {0, 2, 8} <= set(costs)
    assert costs[-1] >= 12


@pytest.mark.parametrize("gigabytes", [9.0, 6.0, 4.0, 3.0, 2.0])
def test_the_number_that_is_said_fits(gigabytes: float) -> None:
    fix = proposed(plan(longest=1024), gigabytes)
    told = re.search(r"about ([\d.]+) (GB|MB)", fix)
    if told:
        assert float(told[1]) * {"GB": 1e9, "MB": 1e6}[told[2]] <= fit.USABLE * gigabytes * 1e9 * 1.05
    else:
        assert fix.startswith(("a base of at most", "free some memory"))


def test_applying_what_is_proposed_makes_it_fit() -> None:
    at, budget = plan(longest=1024), int(fit.USABLE * 5e9)
    assert at.most(budget, 8192) is None or at.most(budget, 8192) < 8192  # type: ignore[operator]
    fix = fit.cheapest(at, budget, 8192, open_size=False)
    assert fix is not None
    changed = at.job
    if "gradient_checkpointing" in fix:
        changed = replace(changed, checkpointed=True)
    if "bfloat16" in fix:
        changed = replace(changed, dtype="bfloat16")
    tokens = re.search(r"micro_batch_tokens: (\d+)", fix)
    wanted = int(tokens[1]) if tokens else 8192
    assert replace(at, job=changed).peak(wanted).needed <= budget


def test_a_size_left_open_is_not_set_by_a_proposal_that_changes_something_else() -> None:
    at = plan(dtype="bfloat16", longest=2048)
    assert "micro_batch" not in proposed(at, 2.2, open_size=True)


def test_a_lighter_optimiser_is_the_heaviest_that_fits() -> None:
    at = plan(dtype="bfloat16", longest=256, checkpointed=True)
    needs = {
        name: replace(at, job=replace(at.job, state=fit.state_bytes(name, FORM, FORM.parameters, 0)))
        for name in ("adamw", "lion", "adafactor")
    }
    room = {name: one.peak(256).needed for name, one in needs.items()}
    assert room["adamw"] > room["lion"] > room["adafactor"]
    change = fit._lighter(at, room["lion"])
    assert change is not None
    assert change.recipe in ("train.optimizer: lion", "train.optimizer: muon")
    tighter = fit._lighter(at, room["adafactor"])
    assert tighter is not None
    assert tighter.recipe == "train.optimizer: adafactor"


def test_state_of_tables_counts_apart() -> None:
    whole = fit.state_bytes("muon", FORM, FORM.parameters, 0)
    assert whole == 4 * (FORM.parameters - FORM.tables) + 8 * FORM.tables
    assert fit.state_bytes("adamw", FORM, 1000, 8) == 8000


def test_a_base_that_would_fit_is_named_where_nothing_else_helps() -> None:
    fix = proposed(plan(model(32, 4096, 32000)), 6.0)
    told = re.fullmatch(
        r"a base of at most about ([\d,]+) million parameters, with method: lora and base.dtype: bfloat16", fix
    )
    assert told
    assert 1000 < int(told[1].replace(",", "")) < 3000
    assert proposed(plan(), 0.3).startswith("free some memory")


def test_little_room_is_a_warning_with_a_proposal() -> None:
    at = plan(dtype="bfloat16")
    need = at.peak(8192).needed
    assert fit.tight(at, machine(need / 1e9 * 2), 8192, open_size=True) is None
    problem = fit.tight(at, machine(need / 1e9 * 1.2), 8192, open_size=True)
    assert problem is not None
    assert (problem.code, problem.level) == ("M132", "warning")
    assert problem.fix is not None


def test_the_largest_micro_batch_is_found() -> None:
    at = plan(dtype="bfloat16")
    budget = at.peak(3000).needed
    most = at.most(budget, 8192)
    assert most is not None
    assert 0.97 * 3000 <= most <= 3000
    assert at.most(at.peak(8192).needed, 8192) == 8192
    assert at.most(memory.FITTED.process, 8192) is None
    assert at.at(100).tokens == at.longest
    assert at.at(100).passes == 16
