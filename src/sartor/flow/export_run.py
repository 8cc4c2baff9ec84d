"""The exports that a recipe asks for, at the end of its run: their certificates are gates of the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.evaluate.verdict import Decided, Verdict
from sartor.flow.export import Exported, export

if TYPE_CHECKING:
    from sartor.export.certificate import Certificate
    from sartor.flow.export import Emit
    from sartor.recipe.schema import Recipe


def exports_of(recipe: Recipe, run: Path, emit: Emit) -> Exported | None:
    """Make them; None where the recipe asks for none. Raises what `export` raises."""
    return export(str(run.resolve()), recipe.export, emit=emit) if recipe.export else None


def with_exports(verdict: Verdict, exported: Exported | None) -> Verdict:
    """The verdict with a gate for each artifact."""
    if exported is None:
        return verdict
    gates = tuple(
        Decided(
            f"export {each.name}", "certificate", None, None, None, each.certificate.passed, _note(each.certificate)
        )
        for each in exported.artifacts
    )
    failed = [each.name for each in exported.artifacts if not each.certificate.passed]
    told = f" Failed certificates: {', '.join(failed)}." if failed else ""
    return replace(verdict, gates=(*verdict.gates, *gates), sentence=verdict.sentence + told)


def _note(certificate: Certificate) -> str:
    if certificate.passed:
        shown = [check for check in certificate.checks if check.name in ("KL max", "greedy", "size")]
        return f"certified through {certificate.runtime}: " + ", ".join(f"{c.name} {c.value}" for c in shown)
    return "; ".join(f"{check.name}: {check.why or check.value}" for check in certificate.failed)


def bodies(exported: Exported | None) -> Sequence[dict[str, Any]]:
    """What the report shows of each artifact: its score beside the source's on validation rows."""
    if exported is None:
        return []
    found = []
    for each in exported.artifacts:
        comparison = each.certificate.facts.get("comparison")
        if comparison is not None:
            word = "Certified" if each.certificate.passed else "FAILED its certificate and is not promoted"
            why = f"{word}. {_note(each.certificate)}."
            found.append(
                {
                    "name": f"export-{each.name}",
                    "title": f"Export: {each.name}",
                    "why": why,
                    "comparison": comparison,
                    "charts": [],
                }
            )
    return found
