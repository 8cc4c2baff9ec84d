"""The further models that an objective asks: the one that training started from, and a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.models.load import load
from sartor.models.still import Still

if TYPE_CHECKING:
    from collections.abc import Callable

    from sartor.flow.handover import Material
    from sartor.models.base import ModelPolicy
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Policy, Traits


def roles_of(
    prepared: Material, policy: ModelPolicy, traits: Traits, again: Callable[[], ModelPolicy]
) -> dict[str, Policy]:
    """The models by the name of their role, each ready to be asked. `again` opens the model that training starts from."""
    found: dict[str, Policy] = {}
    if "reference" in traits.roles:
        found["reference"] = Still(policy, bare=True) if policy.adapter is not None else Still(again())
    if "teacher" in traits.roles:
        found["teacher"] = Still(_teacher(prepared))
    return found


def _teacher(prepared: Material) -> ModelPolicy:
    settings = prepared.settings
    return load(
        teacher_of(prepared),
        dtype=settings.dtype,
        device=settings.device,
        kernels=settings.kernels == "native",
    )


def teacher_of(prepared: Material) -> ModelFolder:
    """The folder of the teacher. Raises ModelError where there is none."""
    from sartor.flow.model import find

    return find(prepared.settings.objective.options.teacher, prepared.loaded.root)  # type: ignore[attr-defined]
