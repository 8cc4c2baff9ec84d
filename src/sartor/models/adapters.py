"""The only file that imports PEFT: injecting, loading, switching and saving its adapters."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from sartor.errors import ModelError, Problem
from sartor.models.adapter import FIRST, OUTSIDE
from sartor.models.low_rank import join_products
from sartor.models.quantized import import_before_peft
from sartor.models.vision import VisionPolicy

if TYPE_CHECKING:
    from types import ModuleType

    from peft import PeftModel
    from transformers import PreTrainedModel

    from sartor.models.base import ModelPolicy
    from sartor.models.grown import Rows
    from sartor.models.virtual import Virtual

FILE = "adapter_model.safetensors"
Kind = Literal["LoraConfig", "IA3Config", "OFTConfig", "VeraConfig"]
"""PEFT's class of settings of a kind of adapter that lives inside the linear layers."""
PromptKind = Literal["PromptTuningConfig", "PrefixTuningConfig"]
"""And of those that live before the rows."""
IDLE: Mapping[str, tuple[str, float]] = {
    "lora": (".lora_B", 0.0),
    "ia3": (".ia3_l", 1.0),
    "oft": (".oft_R", 0.0),
    "vera": (".vera_lambda_b", 0.0),
}
"""Kind of adapter -> part of the names of tensors that change nothing while all their numbers are this one."""


def _library() -> ModuleType:
    import_before_peft()
    import peft

    module: ModuleType = peft
    return module


class PeftAdapter:
    """Implements `Adapter` for one of the adapters that a PEFT model holds inside the layers, by PEFT's name for it."""

    virtual: Virtual | None = None
    rows: Rows | None = None
    """Rows of new tokens that belong to it."""

    def __init__(self, peft: PeftModel, name: str) -> None:
        self.peft, self.name = peft, name

    @property
    def kind(self) -> str:
        """PEFT's name for it."""
        name: str = self.peft.peft_config[self.name].peft_type.value
        return name.lower()

    def on(self) -> None:
        """Take part in what the model computes."""
        with which_moves(self.peft):
            self.peft.set_adapter(self.name)
            if self.kind not in OUTSIDE:
                self.peft.base_model.enable_adapter_layers()
        if self.rows is not None:
            self.rows.on()

    def off(self) -> None:
        """Leave the model as if it was not there."""
        with which_moves(self.peft):
            self.peft.base_model.disable_adapter_layers()
        if self.rows is not None:
            self.rows.off()

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is saved of it, under the names of PEFT's files."""
        held: dict[str, torch.Tensor] = _library().get_peft_model_state_dict(
            self.peft, adapter_name=self.name, save_embedding_layers=False
        )
        return {name: tensor.detach().contiguous() for name, tensor in held.items()}

    def settings(self) -> Any:
        """A copy of PEFT's settings for it."""
        return copy.deepcopy(self.peft.peft_config[self.name])

    def save(self, folder: Path, base: str) -> None:
        """Write a PEFT adapter folder whose base is `base`."""
        tensors, settings = self.tensors(), self.settings()
        if self.rows is not None:
            tensors |= self.rows.tensors()
            settings.trainable_token_indices = self.rows.settings()
        write(folder, tensors, settings, base)


def write(folder: Path, tensors: Mapping[str, torch.Tensor], settings: Any, base: str) -> None:
    """Write a PEFT adapter folder. `settings` is PEFT's object, and is changed."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    settings.base_model_name_or_path, settings.inference_mode = base, True
    apart = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(apart, folder / FILE, metadata={"format": "pt"})
    settings.save_pretrained(str(folder))


@contextmanager
def which_moves(model: torch.nn.Module) -> Iterator[None]:
    """PEFT decides anew what is trainable whenever it switches; this keeps it as it was."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, moves in before:
            parameter.requires_grad_(moves)


def inject(
    policy: ModelPolicy,
    kind: Kind,
    *,
    target_modules: Literal["all-linear"] | tuple[str, ...],
    seed: int,
    **settings: Any,
) -> PeftAdapter:
    """Put an adapter of PEFT into the chosen layers; it alone is trainable, in the type the base computes in, and with it the
    head where the model has one in place of words.

    `settings` are those of PEFT's own class. Raises ModelError M120 where no layer has a wanted name, M121 where PEFT has no
    such adapter for a layer.
    """
    peft = _library()
    targets: str | list[str] = target_modules if target_modules == "all-linear" else list(target_modules)
    task = _task(policy)
    if isinstance(policy, VisionPolicy):
        targets = _among(policy, targets)
    if kind == "VeraConfig" and task.pop("exclude_modules", None) and targets == "all-linear":
        targets = rf".*\.\d+\.(.*\.)?({'|'.join(sorted({name.rpartition('.')[2] for name in linear_layers(policy)}))})"
    config = getattr(peft, kind)(target_modules=targets, **task, **settings)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out")
        warnings.filterwarnings("ignore", message="Invalid `oft_block_size`")
        torch.manual_seed(seed)
        try:
            wrapper = peft.get_peft_model(policy.model, config, autocast_adapter_dtype=False)
        except ValueError as fault:
            if "arget modules" not in str(fault):
                raise
            raise _no_such_layer(policy, targets) from fault
        except TypeError as fault:
            raise _no_such_adapter(kind, fault) from fault
    adapter = PeftAdapter(wrapper, FIRST)
    policy.adapter = policy.adapters[FIRST] = adapter
    _take_dtype(policy, wrapper)
    join_products(policy.model)
    return adapter


def _task(policy: ModelPolicy) -> dict[str, Any]:
    """What PEFT calls the model's purpose, and which of its modules are trained and saved whole."""
    if policy.head is None:
        return {"task_type": {"causal": "CAUSAL_LM", "encoder_decoder": "SEQ_2_SEQ_LM"}.get(policy.kind)}
    parts = policy.head_modules()
    return {
        "task_type": {"sequence": "SEQ_CLS", "tokens": "TOKEN_CLS"}[policy.head.place],
        "modules_to_save": parts,
        "exclude_modules": rf"({'|'.join(map(re.escape, parts))})(\..*)?",
    }


def _among(policy: VisionPolicy, targets: str | list[str]) -> str:
    """A pattern of the paths of these layers where a vision-text model may be changed. Raises ModelError M120."""
    ends = ("",) if isinstance(targets, str) else tuple(f".{name}" for name in targets)
    paths = [name for name in policy.linear_layers() if f".{name}".endswith(ends)]
    if not paths:
        raise _no_such_layer(policy, targets)
    return "|".join(dict.fromkeys(re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(path)) for path in paths))


def linear_layers(policy: ModelPolicy) -> list[str]:
    """Paths of all linear layers inside of the decoder layers."""
    return [name for name, part in policy.model.base_model.named_modules(prefix="model") if _linear(part)]


def _no_such_layer(policy: ModelPolicy, targets: str | list[str]) -> ModelError:
    layers = sorted({name.rsplit(".", 1)[-1] for name in linear_layers(policy)})
    return ModelError(
        Problem(
            "M120",
            f"no layer of this model is called {', '.join(targets)}",
            fix=f"target_modules: all-linear, or some of {', '.join(layers)}",
        )
    )


def _no_such_adapter(kind: Kind, fault: TypeError) -> ModelError:
    told = str(fault).partition(". ")[0]
    what = f"PEFT has no {kind.removesuffix('Config')} for a layer of this model ({told})"
    return ModelError(Problem("M123", what, fix="method: lora"))


def inject_lora(
    policy: ModelPolicy,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: Literal["all-linear"] | tuple[str, ...],
    rslora: bool,
    seed: int,
    **settings: Any,
) -> PeftAdapter:
    """Add low-rank updates to the chosen layers; they alone are trainable. `settings`: further ones of PEFT's LoraConfig."""
    return inject(
        policy,
        "LoraConfig",
        target_modules=target_modules,
        seed=seed,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=rslora,
        bias="none",
        **settings,
    )


def wrap_prompt(policy: ModelPolicy, kind: PromptKind, *, seed: int, **settings: Any) -> PeftModel:
    """PEFT's model for virtual places before every row, which are trainable; the policy's model itself stays as it is."""
    peft = _library()
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapper: PeftModel = peft.get_peft_model(policy.model, config, autocast_adapter_dtype=False)
    return wrapper


def read_prompt(policy: ModelPolicy, folder: Path, there: PeftModel | None) -> tuple[PeftModel, str]:
    """PEFT's model with the virtual places of `folder`, `there` where it is one already, and its name for them.

    Raises ModelError M121 where they do not fit the model.
    """
    peft = _library()
    name = FIRST if there is None else f"further_{len(there.peft_config)}"
    try:
        if there is None:
            there = peft.PeftModel.from_pretrained(
                policy.model, str(folder), adapter_name=name, autocast_adapter_dtype=False
            )
        else:
            with which_moves(there):
                there.load_adapter(str(folder), adapter_name=name, autocast_adapter_dtype=False)
    except RuntimeError as fault:
        fix = "use the base model this adapter was trained on"
        raise ModelError(
            Problem("M121", f"the adapter does not fit: {fault}", file=str(folder / FILE), fix=fix)
        ) from fault
    return there, name


def _take_dtype(policy: ModelPolicy, wrapper: PeftModel) -> None:
    """Adapter weights in the type the base computes in, also where its layers are quantised."""
    prefix = wrapper.base_model.prefix
    for name, parameter in policy.model.named_parameters():
        if f".{prefix}" in name:
            parameter.data = parameter.data.to(policy.model.dtype)
    for name, buffer in policy.model.named_buffers():
        if ".vera_" in name:
            buffer.data = buffer.data.to(policy.model.dtype)


def _linear(part: torch.nn.Module) -> bool:
    return isinstance(part, torch.nn.Linear) or type(part).__name__ == "Conv1D"


def load_adapter(policy: ModelPolicy, folder: Path, *, name: str = FIRST, trainable: bool = False) -> None:
    """Put the adapter of `folder` on the policy's model and use it. Every key of the file must find its place.

    Raises ModelError M121 when keys are missing or left over, M122 when the adapter changes nothing although it should, and
    M124 when it cannot stand beside one that is there.
    """
    peft = _library()
    there = next((one for one in policy.adapters.values() if isinstance(one, PeftAdapter)), None)
    adapter: PeftAdapter
    if there is None:
        settings = peft.PeftConfig.from_pretrained(str(folder))
        if policy.growth is not None:
            settings.trainable_token_indices = None
        wrapper = peft.PeftModel.from_pretrained(
            policy.model,
            str(folder),
            adapter_name=FIRST,
            is_trainable=trainable,
            config=settings,
            autocast_adapter_dtype=False,
        )
        adapter = PeftAdapter(wrapper, FIRST)
        _take_rows(policy, adapter, folder)
    else:
        adapter = _beside(there, folder, f"further_{len(there.peft.peft_config)}")
    _check(adapter, folder)
    join_products(policy.model)
    _take_dtype(policy, adapter.peft)
    policy.adapters[name] = policy.adapter = adapter
    adapter.on()


def _take_rows(policy: ModelPolicy, adapter: PeftAdapter, folder: Path) -> None:
    """The rows of new tokens that the file has, where the policy's model was given such."""
    from safetensors.torch import load_file

    from sartor.models.grown import train_rows

    train_rows(policy)
    if policy.rows is not None:
        policy.rows.read(load_file(folder / FILE), str(folder / FILE))
        adapter.rows = policy.rows


def _beside(there: PeftAdapter, folder: Path, name: str) -> PeftAdapter:
    """A further adapter in the model that holds `there`."""
    with which_moves(there.peft):
        try:
            there.peft.load_adapter(str(folder), adapter_name=name, is_trainable=False, autocast_adapter_dtype=False)
        except ValueError as fault:
            raise ModelError(
                Problem("M124", f"it cannot stand beside the others: {fault}", file=str(folder))
            ) from fault
    return PeftAdapter(there.peft, name)


def _check(adapter: PeftAdapter, folder: Path) -> None:
    """Raise ModelError where an adapter that was loaded does not fit, or does nothing."""
    file = str(folder / FILE)
    held, given = adapter.tensors(), _saved_keys(folder)
    if adapter.rows is not None:
        held |= adapter.rows.tensors()
    if given != held.keys():
        odd = min(given ^ held.keys())
        raise ModelError(
            Problem(
                "M121",
                f"the adapter has {len(given)} tensors, the model has places for {len(held)}; the first that does not fit is {odd}",
                file=file,
                fix="use the base model this adapter was trained on",
            )
        )
    part, idle = IDLE.get(adapter.kind, ("", 0.0))
    updates = [tensor for name, tensor in held.items() if part and part in name]
    silent = updates and all(bool((tensor == idle).all()) for tensor in updates)
    if silent and not _stayed_at_base(folder):
        what = f"the adapter changes nothing: every number of its{part.replace('.', ' ')} is {idle:g}"
        raise ModelError(Problem("M122", what, file=file, fix="train it, or use the base model itself"))


def _stayed_at_base(folder: Path) -> bool:
    """Whether a run of ours found no step better than its start, so that an adapter without effect is what it made."""
    facts = folder / "sartor.json"
    return facts.exists() and json.loads(facts.read_text(encoding="utf-8")).get("best_step") == 0


def _saved_keys(folder: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(folder / FILE, framework="pt") as file:
        return set(file.keys())


def merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` with the adapter of `folder` in its weights. Raises ModelError M190 where that kind of adapter cannot be."""
    adapter = _library().PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    if not hasattr(adapter.base_model, "merge_and_unload"):
        kind = adapter.peft_config["default"].peft_type.value.lower()
        what = f"an adapter of kind {kind} is no change of weights, so it cannot be merged into them"
        raise ModelError(Problem("M190", what, file=str(folder), fix="keep the adapter beside its base"))
    whole: PreTrainedModel = adapter.merge_and_unload()
    return whole
