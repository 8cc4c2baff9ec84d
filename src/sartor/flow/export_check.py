"""Whether the exports that a recipe asks for can be made, told before anything is trained. Torch-free."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sartor import registry
from sartor.errors import RecipeError
from sartor.models.kinds import TOLD, kind_of

if TYPE_CHECKING:
    from sartor.advise.settings import Settings
    from sartor.models.catalog import ModelFolder
    from sartor.recipe.load import Loaded


def require_exports(loaded: Loaded, base: ModelFolder, settings: Settings) -> None:
    """Raises RecipeError R148 for a library that is not installed, R106 for what cannot be exported so."""
    for place, wanted in enumerate(loaded.recipe.export):
        key, module = f"export[{place}]", registry.component("exporter", wanted.name)
        library, extra = module.NEEDS
        if library and find_spec(library) is None:
            needs = f"exporter {wanted.name} needs the library {library}, which is not installed"
            raise RecipeError(loaded.problem("R148", key, needs, fix=f'pip install "sartor[{extra}]"'))
        what = _obstacle(wanted.name, base, settings)
        if what is not None:
            raise RecipeError(loaded.problem("R106", key, f"{wanted.name}: {what}", fix="leave it out of export"))


def _obstacle(name: str, base: ModelFolder, settings: Settings) -> str | None:
    kind = kind_of(base)
    saves = registry.component("method", settings.method.name).SAVES
    types = getattr(registry.component("exporter", name), "MODEL_TYPES", None)
    if kind != "causal" or settings.head is not None:
        head = settings.head
        return f"{f'a model with a head of {head.kind}' if head else TOLD[kind]} is not exported in this version"
    if name == "adapter" and saves != "adapter":
        return f"method {settings.method.name} trains no adapter"
    if types is not None and base.config.get("model_type") not in types:
        return f"models of type {base.config.get('model_type')} are not written; these are: {', '.join(types)}"
    return None
