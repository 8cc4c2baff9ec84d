"""The only file that imports PEFT: injecting, loading and saving adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.low_rank import join_products
from sartor.models.quantized import import_before_peft

if TYPE_CHECKING:
    from types import ModuleType

    from transformers import PreTrainedModel

    from sartor.models.policy import CausalPolicy


def _library() -> ModuleType:
    import_before_peft()
    import peft

    module: ModuleType = peft
    return module


def inject_lora(
    policy: CausalPolicy,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: str | list[str],
    rslora: bool,
    seed: int,
) -> None:
    """Add low-rank updates to the chosen layers; they alone are trainable. Adapter weights take the base's dtype."""
    peft = _library()
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules,
        use_rslora=rslora,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            policy.adapter = peft.get_peft_model(policy.model, config, autocast_adapter_dtype=False)
        except ValueError as fault:
            if "arget modules" not in str(fault):
                raise
            layers = sorted(
                {name.rsplit(".", 1)[-1] for name, part in policy.model.named_modules() if _linear(part)} - {"lm_head"}
            )
            raise ModelError(
                Problem(
                    "M120",
                    f"no layer of this model is called {', '.join(target_modules)}",
                    fix=f"target_modules: all-linear, or some of {', '.join(layers)}",
                )
            ) from fault
    _take_dtype(policy)
    join_products(policy.model)


def _take_dtype(policy: CausalPolicy) -> None:
    """Adapter weights in the type the base computes in, also where its layers are quantised."""
    for name, parameter in policy.model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(policy.model.dtype)


def _linear(part: torch.nn.Module) -> bool:
    return isinstance(part, torch.nn.Linear) or type(part).__name__ == "Conv1D"


def load_adapter(policy: CausalPolicy, folder: Path, *, trainable: bool = False) -> None:
    """Put the adapter of `folder` on the policy's model. Every key of the file must find its place.

    Raises ModelError M121 when keys are missing or left over, M122 when the adapter changes nothing although it should.
    """
    adapter = _library().PeftModel.from_pretrained(
        policy.model, str(folder), is_trainable=trainable, autocast_adapter_dtype=False
    )
    wanted = {name for name in adapter.state_dict() if ".lora_" in name}
    given = _saved_keys(folder)
    if len(given) != len(wanted):
        raise ModelError(
            Problem(
                "M121",
                f"the adapter has {len(given)} tensors, the model has places for {len(wanted)}",
                file=str(folder / "adapter_model.safetensors"),
                fix="use the base model this adapter was trained on",
            )
        )
    updates = [tensor for name, tensor in adapter.state_dict().items() if ".lora_B." in name]
    if updates and not any(bool(tensor.any()) for tensor in updates) and not _stayed_at_base(folder):
        raise ModelError(
            Problem(
                "M122",
                "the adapter changes nothing: every B matrix is zero",
                file=str(folder / "adapter_model.safetensors"),
                fix="train it, or use the base model itself",
            )
        )
    join_products(policy.model)
    policy.adapter = adapter
    _take_dtype(policy)


def _stayed_at_base(folder: Path) -> bool:
    """Whether a run of ours found no step better than its start, so that an adapter without effect is what it made."""
    facts = folder / "sartor.json"
    return facts.exists() and json.loads(facts.read_text(encoding="utf-8")).get("best_step") == 0


def _saved_keys(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        return list(file.keys())


def save_adapter(policy: CausalPolicy, folder: Path, *, base: str) -> None:
    """Write a PEFT adapter folder whose base is `base`."""
    assert policy.adapter is not None
    settings: Any = policy.adapter.peft_config["default"]
    settings.base_model_name_or_path = base
    policy.adapter.save_pretrained(str(folder), safe_serialization=True)


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` with the adapter of `folder` in its weights. Raises ModelError M190 where that kind of adapter cannot be."""
    adapter = _library().PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    if not hasattr(adapter.base_model, "merge_and_unload"):
        kind = adapter.peft_config["default"].peft_type.value.lower()
        what = f"an adapter of kind {kind} is no change of weights, so it cannot be merged into them"
        raise ModelError(Problem("M190", what, file=str(folder), fix="keep the adapter beside its base"))
    whole: PreTrainedModel = adapter.merge_and_unload()
    return whole
