"""What goes with what: methods, objectives and kinds of models, and why the rest does not. Torch-free.

Objectives say which kinds of models they train (`TRAITS.models`). A method goes with every objective and model, unless it
says that it needs a head (`HEADED`) or that it cannot stand one (`WORDED`), or which models it fits (`MODELS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sartor import registry
from sartor.models.kinds import TOLD, Kind

if TYPE_CHECKING:
    from sartor.protocols import Traits

KINDS: tuple[Kind, ...] = ("causal", "encoder", "encoder_decoder", "vision")
OF_WORDS = frozenset({"causal", "encoder", "encoder_decoder"})
"""Kinds that methods fit unless they say otherwise: models that see are those of methods that name them."""
HEADS = {
    "words": "words",
    "classes": "one label",
    "labels": "several labels",
    "number": "a number",
    "tags": "a tag for each word",
    "reward": "a reward",
}


def traits_of(objective: str) -> Traits:
    """What an objective is about."""
    traits: Traits = registry.component("objective", objective).TRAITS
    return traits


def obstacle(method: str, objective: str, model: Kind) -> str | None:
    """Why a method cannot learn an objective on a kind of model; None where it can."""
    traits, module = traits_of(objective), registry.component("method", method)
    if model not in traits.models:
        wanted = " or ".join(TOLD[kind] for kind in KINDS if kind in traits.models)
        return f"{objective} trains {wanted}; the base is {TOLD[model]}"
    if getattr(module, "HEADED", False) and traits.head == "words":
        return f"method {method} trains a head alone, and {objective} learns words"
    if getattr(module, "WORDED", False) and traits.head != "words":
        return f"method {method} is for models that write words, and {objective} learns {HEADS[traits.head]}"
    fits: frozenset[str] = getattr(module, "MODELS", OF_WORDS)
    if model not in fits:
        wanted = " or ".join(TOLD[kind] for kind in KINDS if kind in fits)
        return f"method {method} fits {wanted}; the base is {TOLD[model]}"
    return None


def markdown() -> str:
    """The page of what works: docs/reference/matrix.md."""
    return "\n".join([*_opening(), *_objectives(), *_methods(), *_refused()])


def _opening() -> Iterator[str]:
    yield from ("# What goes with what", "")
    yield "Made by `sartor.advise.matrix.markdown()`; do not edit. A test trains every cell that says yes on tiny models; every other one is refused"
    yield "with its reason before anything is written (R106)."
    yield ""


def _objectives() -> Iterator[str]:
    yield from (
        "## Objectives",
        "",
        "| objective | gives | learns from rows | decoder | encoder | encoder-decoder | vision-text |",
    )
    yield "|---|---|---|---|---|---|---|"
    for name in registry.names("objective"):
        traits = traits_of(name)
        cells = " | ".join("yes" if kind in traits.models else "no" for kind in KINDS)
        yield f"| `{name}` | {HEADS[traits.head]} | {', '.join(sorted(traits.rows))} | {cells} |"
    yield ""


def _methods() -> Iterator[str]:
    yield from ("## Methods", "", "| method | saves | objectives | decoder | encoder | encoder-decoder | vision-text |")
    yield "|---|---|---|---|---|---|---|"
    for name in registry.names("method"):
        module = registry.component("method", name)
        which = "those that learn words" if getattr(module, "WORDED", False) else "all"
        which = "those with a head" if getattr(module, "HEADED", False) else which
        fits = getattr(module, "MODELS", OF_WORDS)
        cells = " | ".join("yes" if kind in fits else "no" for kind in KINDS)
        yield f"| `{name}` | {module.SAVES} | {which} | {cells} |"
    yield ""


def _refused() -> Iterator[str]:
    pairs = [(m, o) for m in registry.names("method") for o in registry.names("objective")]
    cells = [obstacle(method, objective, kind) for method, objective in pairs for kind in KINDS]
    works = sum(cell is None for cell in cells)
    yield "`ia3` and `adapter` know the layers of decoders by their names; on other models they are told them (M126). `oft` rotates no layers of"
    yield "GPT-2's kind."
    yield ""
    yield f"{works:,} of {len(cells):,} combinations of method, objective and kind of model work."
    yield ""
