"""Small networks behind chosen layers, h + up(f(down(h))), and the folder they are saved in.

PEFT has no such adapters, so the folder is ours: `sartor_adapter.json` with the settings and `sartor_adapter.safetensors` with
the weights. `up` begins at zero, so that nothing changes at first.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from sartor.errors import ModelError, Problem
from sartor.models.adapter import FIRST
from sartor.models.adapters import linear_layers
from sartor.models.catalog import OWN_ADAPTER

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.models.virtual import Virtual

WEIGHTS = "sartor_adapter.safetensors"
Activation = Literal["relu", "gelu", "silu"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the networks stand and what they are like."""

    layers: tuple[str, ...]
    """Ends of the paths of the layers they stand behind"""
    size: int
    activation: Activation

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Those of a folder."""
        body = json.loads((folder / OWN_ADAPTER).read_text(encoding="utf-8"))
        return cls(tuple(body["layers"]), body["size"], body["activation"])


class Network(torch.nn.Module):
    """h -> up(f(down(h))), [..., H] -> [..., H]."""

    def __init__(self, width: int, settings: Settings) -> None:
        super().__init__()
        self.down, self.up = torch.nn.Linear(width, settings.size), torch.nn.Linear(settings.size, width)
        self.activation = getattr(torch.nn.functional, settings.activation)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is added."""
        out: torch.Tensor = self.up(self.activation(self.down(hidden)))
        return out


class Bottleneck(torch.nn.Module):
    """In the place of a layer: the layer, and behind it the network in use, if any."""

    def __init__(self, base_layer: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.networks = torch.nn.ModuleList()
        self.used: int | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The layer's own."""
        own: torch.Tensor = self.base_layer.weight  # type: ignore[assignment]
        return own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., H]."""
        out: torch.Tensor = self.base_layer(x)
        return out if self.used is None else out + self.networks[self.used](out)


class BottleneckAdapter:
    """Implements `Adapter`.

    `places`: path -> the place, and which of its networks belongs to this adapter. `heads`: path -> the base's module of a head in
    place of words, and this adapter's; `model` holds the one in use.
    """

    kind = "bottleneck"
    virtual: Virtual | None = None

    def __init__(
        self,
        settings: Settings,
        places: Mapping[str, tuple[Bottleneck, int]],
        model: torch.nn.Module,
        heads: Mapping[str, tuple[torch.nn.Module, torch.nn.Module]],
    ) -> None:
        self.settings, self.places, self.model, self.heads = settings, places, model, heads

    def on(self) -> None:
        """Take part in what the model computes."""
        for place, number in self.places.values():
            place.used = number
        for path, (_, own) in self.heads.items():
            self.model.set_submodule(path, own)

    def off(self) -> None:
        """Leave the model as if it was not there."""
        for place, _ in self.places.values():
            place.used = None
        for path, (base, _) in self.heads.items():
            self.model.set_submodule(path, base)

    def parts(self) -> dict[str, torch.nn.Module]:
        """What belongs to it, by path."""
        heads = {path: own for path, (_, own) in self.heads.items()}
        return heads | {path: place.networks[number] for path, (place, number) in self.places.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Its weights by path, and those of the head where there is one in place of words."""
        return {
            f"{path}.{name}": tensor.detach().contiguous()
            for path, part in self.parts().items()
            for name, tensor in part.state_dict().items()
        }

    def save(self, folder: Path, base: str) -> None:
        """Write settings and weights."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        body = {"kind": "bottleneck", "base_model_name_or_path": base, **asdict(self.settings)}
        (folder / OWN_ADAPTER).write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        save_file(self.tensors(), folder / WEIGHTS, metadata={"format": "pt"})


def insert(policy: ModelPolicy, settings: Settings, *, name: str = FIRST, seed: int = 0) -> BottleneckAdapter:
    """Put fresh networks behind the chosen layers; they alone are trainable, and a head in place of words with them.

    Raises ModelError M120 for no such layer.
    """
    paths = [path for path in _paths(policy) if f".{path}".endswith(tuple(f".{end}" for end in settings.layers))]
    if not paths:
        what = f"no layer of this model is called {', '.join(settings.layers)}"
        kinds = ", ".join(sorted({path.rsplit(".", 1)[-1] for path in _paths(policy)}))
        raise ModelError(Problem("M120", what, fix=f"some of {kinds}"))
    places = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path in paths:
            place = _place(policy, path)
            network = Network(_outputs(place.base_layer), settings)
            place.networks.append(network.to(policy.device, policy.model.dtype))
            places[path] = (place, len(place.networks) - 1)
    bases = {path: policy.model.get_submodule(path) for path in policy.head_modules()}
    heads = {path: (base, copy.deepcopy(base).requires_grad_(True)) for path, base in bases.items()}
    adapter = BottleneckAdapter(settings, places, policy.model, heads)
    adapter.on()
    policy.adapter = policy.adapters[name] = adapter
    return adapter


def _paths(policy: ModelPolicy) -> list[str]:
    """Linear layers, by the paths they have without what is put around them."""
    return [path.removesuffix(".base_layer") for path in linear_layers(policy) if ".networks." not in path]


def _place(policy: ModelPolicy, path: str) -> Bottleneck:
    """What stands in the place of a layer; made where there is nothing yet."""
    trunk = policy.model.base_model
    above, _, last = path.partition(".")[2].rpartition(".")
    parent = trunk.get_submodule(above)
    there = getattr(parent, last)
    if isinstance(there, Bottleneck):
        return there
    place = Bottleneck(there)
    setattr(parent, last, place)
    return place


def _outputs(layer: torch.nn.Module) -> int:
    sizes: Sequence[int] = layer.weight.shape  # type: ignore[assignment]
    return layer.out_features if isinstance(layer, torch.nn.Linear) else sizes[1]


def load_bottleneck(policy: ModelPolicy, folder: Path, *, name: str = FIRST) -> None:
    """Put the adapter of `folder` on the policy's model and use it. Raises ModelError M121 where it does not fit."""
    from safetensors.torch import load_file

    adapter = insert(policy, Settings.read(folder), name=name)
    held, given = adapter.tensors(), load_file(folder / WEIGHTS)
    odd = [key for key in sorted(held.keys() | given.keys()) if _shape(held.get(key)) != _shape(given.get(key))]
    if odd:
        what = f"the adapter does not fit this model, first at {odd[0]}"
        fix = "use the base model this adapter was trained on"
        raise ModelError(Problem("M121", what, file=str(folder / WEIGHTS), fix=fix))
    with torch.no_grad():
        for key, tensor in held.items():
            tensor.copy_(given[key])
    for part in adapter.parts().values():
        part.requires_grad_(False)


def _shape(tensor: torch.Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape
