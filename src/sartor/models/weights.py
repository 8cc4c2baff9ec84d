"""The weights of a model on disk as fp32 tensors, one at a time: of a model folder, or of an adapter merged into its base.

    W' = W + scale B A           (LoRA, Hu et al. 2021, equation 3; scale = alpha / rank, with rslora alpha / sqrt(rank))

W is the weight that the adapter was trained on: for QLoRA what the four bits stand for. Only the tensor asked for is in memory,
and for QLoRA the base in four bits. Adapters of other kinds are merged by PEFT into a whole model in a folder of its own first.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.catalog import OWN_ADAPTER
from sartor.models.heads import HeadSpec
from sartor.models.quantization import Quantization
from sartor.store.tensors import Form, Stored, forms, save_tensors, write_each
from sartor.tokens.growth import Growth

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.catalog import ModelFolder

ADAPTER = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""Before every name in an adapter's file."""
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SETTLED = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "r", "lora_alpha", "lora_dropout", "use_rslora", "fan_in_fan_out", "target_modules"),
        *("exclude_modules", "layers_to_transform", "layers_pattern", "init_lora_weights", "megatron_core"),
        *("qalora_group_size", "ensure_weight_tying"),
    }
)
"""Settings of PEFT's LoRA that the formula above takes in; any other one that is set asks for more than it."""
IGNORED = frozenset(
    {
        *("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "name_or_path", "_attn_implementation_autoset"),
    }
)
"""Settings of a model that do not enter its hidden states and logits."""

Change = Callable[[torch.Tensor], torch.Tensor]
"""Gives a new tensor: the one it takes may be the file itself, and is read again."""


@dataclass(frozen=True)
class Weights:
    """The weights of one model. Names are without the prefix of the model's trunk, which some files leave out."""

    label: str
    """What the user calls it."""
    root: ModelFolder
    """The folder of the whole weights."""
    skeleton: PreTrainedModel
    """The model without numbers."""
    files: Mapping[Path, Mapping[str, Form]]
    """File -> names in it, with their form."""
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    """Name -> what is done to the stored tensor in fp32, in this order."""

    @cached_property
    def forms(self) -> dict[str, Form]:
        """Name -> form on disk, of all but copies of tied weights and what the model has no place for.

        Where transformers puts weights together as it reads them, the names of the files are taken as they are.
        """
        every = {self.bare(name): form for held in self.files.values() for name, form in held.items()}
        needed = {self.bare(name) for name, _ in self.skeleton.named_parameters()}
        if needed <= every.keys():
            return {name: form for name, form in every.items() if name in needed}
        tied = {self.bare(name) for name in self.skeleton.all_tied_weights_keys}
        return {name: form for name, form in every.items() if name not in tied}

    def bare(self, name: str) -> str:
        """A name of a file or of a parameter without the prefix of the trunk."""
        return name.removeprefix(f"{self.skeleton.base_model_prefix}.")

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Name -> fp32 tensor, made when it is asked for; numbers that are not floating stay as they are stored."""
        return _Made(self)


class _Made(Mapping[str, torch.Tensor]):
    def __init__(self, weights: Weights) -> None:
        self._stored = Stored(weights.root.path, "")
        self._names = {weights.bare(name): name for name in self._stored}
        self._changes = weights.changes

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> torch.Tensor:
        stored = self._stored[self._names[name]]
        if not stored.is_floating_point():
            return stored
        made = stored.float()
        for change in self._changes.get(name, ()):
            made = change(made)
        return made


def whole(folder: ModelFolder, scratch: Path) -> Weights:
    """The weights of a model, or of an adapter with its base; `scratch` is a folder for what must be written on the way.

    Raises ModelError M190 for an adapter that cannot be merged into its base, M193 for weights that are not numbers to merge.
    """
    if (folder.path / OWN_ADAPTER).exists():
        what = "an adapter of kind bottleneck is no change of weights, so it cannot be merged into them"
        raise ModelError(Problem("M190", what, file=str(folder.path), fix="keep the adapter beside its base"))
    base = origin(folder)
    if folder.base is None:
        return base
    settings = adapter_settings(folder.path)
    if is_plain_lora(settings, folder.path):
        return _with_updates(base, folder.path, settings)
    return _by_peft(base, folder, scratch)


def origin(folder: ModelFolder) -> Weights:
    """The base of an adapter as the adapter was trained on it; of a whole model itself."""
    root, quantization = stored(folder.root, folder.reference), Quantization.of(folder)
    return root if quantization is None else _dequantised(root, quantization)


def adapter_settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json; empty where there is none."""
    path = folder / "adapter_config.json"
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return body


def stored(folder: ModelFolder, label: str) -> Weights:
    """The weights of a whole model as they lie there. Raises ModelError M193 where they are kept quantised."""
    from sartor.models.hf import skeleton

    if "quantization_config" in folder.config:
        what = "the weights of this model are kept quantised; they cannot be merged number by number"
        raise ModelError(Problem("M193", what, file=str(folder.path), fix="the model it was quantised from"))
    model = skeleton(folder.path, HeadSpec.of(folder.path, folder.config))
    return Weights(label, folder, model, {file: forms(file) for file in folder.weight_files})


def form_of(folder: ModelFolder, weights: Weights) -> Weights:
    """The files that a merged model is written in: those of the base, or its own where the adapter has a head or tokens."""
    root = stored(folder.root, folder.reference)
    if weights.root.path == root.root.path or (HeadSpec.of(folder.path, {}) is None and not _grows(folder)):
        return root
    usual = Counter(form.dtype for form in root.forms.values()).most_common(1)[0][0]
    dtypes = {name: form.dtype for name, form in root.forms.items()}
    files = {
        file: {name: Form(dtypes.get(weights.bare(name), usual), form.shape) for name, form in held.items()}
        for file, held in weights.files.items()
    }
    return replace(weights, files=files)


def _grows(folder: ModelFolder) -> bool:
    """Whether an adapter brings rows for tokens that its base does not have."""
    return Growth.of(folder.path) != Growth.of(folder.root.path)


def _dequantised(root: Weights, quantization: Quantization) -> Weights:
    """The base as QLoRA has seen it."""
    from sartor.models.quantized import dequantised, is_packed, load_quantized

    model, *_ = load_quantized(root.root.path, root.skeleton.config, quantization, device="cpu")
    turned = _turned(root.skeleton)

    def unpacked(weight: torch.Tensor, name: str, stored: torch.Tensor) -> torch.Tensor:
        made = dequantised(weight).float()
        return (made.T if name in turned else made).reshape(stored.shape)

    def narrowed(stored: torch.Tensor) -> torch.Tensor:
        """What was not packed was held in the type of products, which files may be wider than."""
        return stored.to(getattr(torch, quantization.dtype)).float()

    changes = {
        root.bare(name): (partial(unpacked, parameter, root.bare(name)) if is_packed(parameter) else narrowed,)
        for name, parameter in model.named_parameters()
    }
    return Weights(root.label, root.root, root.skeleton, root.files, changes)


def _turned(model: PreTrainedModel) -> set[str]:
    """Names of weights that are stored [in, out]."""
    prefix = f"{model.base_model_prefix}."
    return {
        f"{name}.weight".removeprefix(prefix) for name, part in model.named_modules() if type(part).__name__ == "Conv1D"
    }


def is_plain_lora(settings: Mapping[str, Any], folder: Path) -> bool:
    """Whether the formula at the top is all there is to an adapter."""
    more = {key for key, value in settings.items() if value and key not in SETTLED and (key, value) != ("bias", "none")}
    names = forms(folder / ADAPTER) if not more and settings.get("peft_type") == "LORA" else {}
    return bool(names) and all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


def scale_of(settings: Mapping[str, Any]) -> float:
    """What B A is multiplied by."""
    rank, alpha = settings["r"], float(settings["lora_alpha"])
    return alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank


def _with_updates(base: Weights, folder: Path, settings: Mapping[str, Any]) -> Weights:
    updates, turned, scale = Stored(folder, "adapter_model"), _turned(base.skeleton), scale_of(settings)

    def added(layer: str, name: str, weight: torch.Tensor) -> torch.Tensor:
        down, up = (updates[f"{layer}.lora_{letter}.weight"].float() for letter in "AB")
        update = up @ down
        return torch.add(weight, update.T if name in turned else update, alpha=scale)

    changes = dict(base.changes)
    known = base.forms
    for key in updates:
        if not key.endswith(".lora_A.weight"):
            continue
        layer = key.removesuffix(".lora_A.weight")
        name = base.bare(layer.removeprefix(PREFIX) + ".weight")
        if name not in known:
            what = f"the adapter changes {name}, which its base does not have"
            raise ModelError(Problem("M190", what, file=str(folder), fix="use the base it was trained on"))
        changes[name] = (*changes.get(name, ()), partial(added, layer, name))
    return Weights(base.label, base.root, base.skeleton, base.files, changes)


def _by_peft(base: Weights, folder: ModelFolder, scratch: Path) -> Weights:
    """Any other adapter: the base as it was seen, in fp32, and PEFT's own merge, saved as a model of its own."""
    from sartor.models.adapters import merged
    from sartor.models.catalog import resolve
    from sartor.models.grown import grow
    from sartor.models.hf import load_model, read_config

    seen = base.root.path
    if base.changes:
        seen = scratch / "seen"
        seen.mkdir(parents=True)
        shutil.copyfile(base.root.path / "config.json", seen / "config.json")
        tensors = base.tensors()
        fp32 = {name: Form("F32", form.shape) for name, form in base.forms.items()}
        write_each(seen / "model.safetensors", fp32, lambda name: tensors[name])
    head = HeadSpec.of(folder.path, {}) or HeadSpec.of(folder.root.path, folder.root.config)
    config = read_config(seen, {}, head)
    model, *_ = load_model(seen, config, dtype=torch.float32, head=head, fresh=HeadSpec.of(folder.path, {}) is not None)
    growth = Growth.of(folder.path)
    if growth is not None and _grows(folder):
        grow(model, growth)
    made = scratch / "merged"
    merged(model, folder.path).save_pretrained(str(made))
    return stored(resolve(str(made), scratch), base.label)


def overlaid(weights: Weights, checkpoint: Path) -> Weights:
    """The same with the trained weights of a checkpoint in their places."""
    trained = Stored(checkpoint, "weights")
    known = weights.forms
    changes = dict(weights.changes)

    def replaced(name: str, stored: torch.Tensor) -> torch.Tensor:
        return trained[name].float()

    for name in trained:
        if weights.bare(name) not in known:
            what = f"the checkpoint holds {name}, which the model of the run does not have"
            raise ModelError(Problem("M191", what, file=str(checkpoint)))
        changes[weights.bare(name)] = (partial(replaced, name),)
    return Weights(f"{weights.label} {checkpoint.name}", weights.root, weights.skeleton, weights.files, changes)


def adapter_at(folder: ModelFolder, checkpoint: Path, into: Path) -> ModelFolder:
    """The adapter of a checkpoint as a folder of its own, made after the one that the run ended with.

    Raises ModelError M191 where the checkpoint does not hold what that adapter is saved as.
    """
    trained = Stored(checkpoint, "weights")
    names = {name.replace(".default", "").removesuffix(".weight"): name for name in trained}
    tensors = {}
    for key, form in forms(folder.path / ADAPTER).items():
        name = names.get(key.removeprefix(PREFIX).removesuffix(".weight"))
        if name is None or tuple(trained[name].shape) != form.shape:
            what = f"the checkpoint does not hold {key} in the form in which this method saves it"
            raise ModelError(Problem("M191", what, file=str(checkpoint), fix="merge finished adapters instead"))
        tensors[key] = trained[name]
    into.mkdir(parents=True)
    save_tensors(tensors, into / ADAPTER, {})
    for name in ("adapter_config.json", "sartor.json"):
        shutil.copyfile(folder.path / name, into / name)
    return replace(folder, path=into, reference=f"{folder.reference} {checkpoint.name}")


def require_alike(first: Weights, other: Weights) -> None:
    """Raise ModelError M191 with the first difference of two models that cannot be merged."""
    what = next(_differences(first, other), None)
    if what is not None:
        raise ModelError(
            Problem(
                "M191",
                f"{other.label} and {first.label} are not of one architecture: {what}",
                file=str(other.root.path),
                fix="merge models that were tuned from one base",
            )
        )


def _differences(first: Weights, other: Weights) -> Iterator[str]:
    ours, theirs = (dict(_flat(weights.skeleton.config.to_dict())) for weights in (first, other))
    keys = ("model_type", *sorted((ours.keys() | theirs.keys()) - {"model_type"}))
    for key in keys:
        if key.partition(".")[0] not in IGNORED and ours.get(key) != theirs.get(key):
            yield f"{key} is {theirs.get(key)!r} and not {ours.get(key)!r}"
    mine, yours = first.forms, other.forms
    for name in sorted(mine.keys() ^ yours.keys()):
        without, having = (first, other) if name in yours else (other, first)
        yield f"{name} is in {having.label}, and not in {without.label}"
    for name in sorted(mine.keys() & yours.keys()):
        if mine[name].shape != yours[name].shape:
            yield f"{name} is {list(yours[name].shape)} and not {list(mine[name].shape)}"


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
