"""Several models made one: weights merged tensor by tensor from disk to disk, tokenizer and template beside them.

The result is a Hugging Face folder that any program reads; its sartor.json says which models it was made of, by hash, and how.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sartor.console import printable, size
from sartor.errors import ModelError, Problem, RunError
from sartor.events import Event, Noted, Progressed, Stage
from sartor.flow.model import find
from sartor.flow.prepare import renderer_for
from sartor.models.catalog import ModelFolder
from sartor.models.merge_adapters import Adapters
from sartor.models.merging import FROM_BASE, SPARSE, How, Rule
from sartor.models.weights import DTYPES, Weights, adapter_at, form_of, overlaid, require_alike, stored, whole
from sartor.protocols import Saver
from sartor.store import atomic
from sartor.store.fingerprint import of_file, of_text, weights
from sartor.store.tensors import Form, write_each

if TYPE_CHECKING:
    from rich.console import Console

Emit = Callable[[Event], None]
DENSITY = 0.2
"""Share of numbers that TIES keeps in its paper; DARE bears less in models of billions of parameters only."""
KEPT_FACTS = ("base", "base_path", "method", "task", "max_tokens", "thinks", "reasoning", "renderer", "head", "grown")
"""What sartor.json of a tuned model says that stays true when it is merged."""
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Merged:
    """What was made of what."""

    folder: Path
    kind: str
    how: str
    models: tuple[Mapping[str, Any], ...]
    weights: tuple[float, ...]
    base: Mapping[str, Any] | None
    density: float | None
    tensors: int
    bytes: int

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "folder": str(self.folder), "kind": self.kind, "how": self.how, "models": [dict(each) for each in self.models],
            "weights": list(self.weights), "base": self.base and dict(self.base), "density": self.density,
            "tensors": self.tensors, "bytes": self.bytes,
        }  # fmt: skip

    def render(self, console: Console) -> None:
        """One line for each model, one for the result."""
        for model, weight in zip(self.models, self.weights, strict=True):
            console.print(printable(f" {weight:+.4g}  {model['model']}  {model['sha256'][:12]}"), soft_wrap=True)
        if self.base is not None:
            console.print(printable(f"   base  {self.base['model']}  {self.base['sha256'][:12]}"), soft_wrap=True)
        thin = f" at density {self.density:g}" if self.density is not None else ""
        what = f"{self.how}{thin}: {self.tensors} tensors, {size(self.bytes)}"
        console.print(printable(f" wrote the {self.kind} {self.folder}   {what}"), soft_wrap=True)


def merge(
    models: Sequence[str],
    out: Path,
    *,
    how: How = "average",
    shares: Sequence[float] | None = None,
    base: str | None = None,
    density: float | None = None,
    seed: int | None = None,
    last: int | None = None,
    as_adapter: bool = False,
    emit: Emit,
) -> Merged:
    """Merge models into the folder `out`, which is written whole or not at all.

    Args:
        models: run folders, model folders, adapter folders, hub ids. With `last` one run.
        shares: weight of each model; all alike where None (1 for ties).
        base: what the models were tuned from, for task, ties and dare; of adapters it is known.
        density: share of the numbers of a difference that ties and dare keep.
        seed: of what dare draws.
        last: average so many of the newest checkpoints of the run's last stage.
        as_adapter: merge adapters of one base and rank as adapters.

    Raises:
        ModelError: M190 an adapter that cannot be merged; M191 different models; M192 settings that do not go together;
            M193 weights that are kept quantised; M194 adapters that cannot be merged as adapters.
        RunError: F102 where `out` holds something; F110, F111 where checkpoints are missing or damaged.
    """
    refuse_full(out)
    with tempfile.TemporaryDirectory(prefix="sartor-merge-") as scratch:
        root = Path.cwd()
        found = [find(model, root) for model in models]
        checkpoints = _last(models, last) if last is not None else []
        count = len(checkpoints) or len(found)
        if len(found) == 1 and last is None and found[0].base is None and how not in FROM_BASE:
            what = f"{models[0]} is a whole model, and there is no other one to merge it with"
            raise ModelError(Problem("M192", what, fix="name a second model, or --last K for checkpoints of a run"))
        rule = _rule(how, count, shares, density, seed, checkpoints=bool(checkpoints))
        origin = _origin(found, base, rule, root)
        parents = [named(folder, checkpoint) for folder, checkpoint in _pairs(found, checkpoints)]
        facts = facts_of(found[0]) | {"merged": _lineage(rule, parents, origin, as_adapter=as_adapter)}
        _same_text([*found, *([origin] if origin else [])], emit)
        emit(Stage("merge", f"{how} of {count}"))
        folders = [
            adapter_at(folder, checkpoint, Path(scratch) / checkpoint.name) if checkpoint and folder.base else folder
            for folder, checkpoint in _pairs(found, checkpoints)
        ]
        if as_adapter:
            writers, forms = _adapter_writers(Adapters(folders, rule), facts)
        else:
            opened = [whole(folder, Path(scratch) / str(place)) for place, folder in enumerate(folders)]
            if checkpoints and found[0].base is None:
                opened = [overlaid(opened[0], checkpoint) for checkpoint in checkpoints]
            form = form_of(found[0], opened[0])
            writers, forms = model_writers(
                form, opened, stored(origin, origin.reference) if origin else None, rule, emit
            )
        writers |= text_writers(found[0]) | {"sartor.json": json_writer(facts)}
        total = sum(each.bytes for each in forms.values())
        atomic.publish(out, writers, about=facts["merged"], needs=total)
    lineage = facts["merged"]
    return Merged(
        out, "adapter" if as_adapter else "model", how, tuple(lineage["models"]), tuple(lineage["weights"]),
        lineage["base"], lineage["density"], len(forms), total,
    )  # fmt: skip


def merge_adapter(folder: ModelFolder, out: Path) -> None:
    """Make a whole model of an adapter and its base, in the types in which the base lies on disk; an older `out` is replaced.

    The sum is taken in fp32; the base of QLoRA is what its four bits stand for. Raises ModelError M190 where this kind of
    adapter is no change of weights.
    """
    with tempfile.TemporaryDirectory(prefix="sartor-merge-") as scratch:
        rule = Rule("average", (1.0,))
        facts = facts_of(folder) | {"merged": _lineage(rule, [named(folder, None)], None, as_adapter=False)}
        opened = whole(folder, Path(scratch) / "0")
        writers, forms = model_writers(form_of(folder, opened), [opened], None, rule, lambda event: None)
        writers |= text_writers(folder) | {"sartor.json": json_writer(facts)}
        needs = sum(each.bytes for each in forms.values())
        atomic.publish(out, writers, about=facts["merged"], needs=needs)


def refuse_full(out: Path) -> None:
    """Raises RunError F102 where `out` is a file, or a folder with something in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "this folder holds something already; it is not overwritten"
        raise RunError(Problem("F102", what, file=str(out), fix="give --out a folder that is not there yet"))


def _rule(
    how: How, count: int, shares: Sequence[float] | None, density: float | None, seed: int | None, *, checkpoints: bool
) -> Rule:
    """Raises ModelError M192 for a setting that cannot act, or cannot act so."""
    given = shares is not None
    if shares is None:
        shares = [1.0 if how == "ties" else 1 / count] * count
    wrong = {
        f"{len(shares)} weights are given for {count} models": len(shares) != count,
        "average gives every model the same weight; --how linear takes weights": how == "average" and given,
        "checkpoints of a run are averaged, or merged by linear": checkpoints and how not in ("average", "linear"),
        f"slerp is between two models, and {count} are given": how == "slerp" and count != 2,
        "the weights of slerp must not be negative": how == "slerp" and min(shares) < 0,
        "the weights must add up to more than zero": how not in FROM_BASE and sum(shares) <= 0,
        f"--density has no effect on {how}": density is not None and how not in SPARSE,
        "--density must be more than 0 and at most 1": density is not None and not 0 < density <= 1,
        f"--seed has no effect on {how}": seed is not None and how != "dare",
    }
    for what, so in wrong.items():
        if so:
            raise ModelError(Problem("M192", what, fix="see: sartor merge --help"))
    keep = (DENSITY if density is None else density) if how in SPARSE else 1.0
    if how in ("linear", "average", "slerp"):
        shares = [share / sum(shares) for share in shares]
    return Rule(how, tuple(shares), keep, seed or 0)


def _origin(found: Sequence[ModelFolder], base: str | None, rule: Rule, root: Path) -> ModelFolder | None:
    """The model that differences are taken from. Raises ModelError M192 where it is needed and not known, or of no use."""
    if rule.how not in FROM_BASE:
        if base is not None:
            raise ModelError(Problem("M192", f"--base has no effect on {rule.how}", fix="leave it out"))
        return None
    if base is not None:
        origin = find(base, root)
        if origin.base is not None:
            raise ModelError(
                Problem("M192", f"{base} is an adapter; the base must be a whole model", fix="--base MODEL")
            )
        return origin
    roots = {folder.root.path: folder.root for folder in found if folder.base is not None}
    if len(roots) != 1 or not all(folder.base is not None for folder in found):
        what = f"{rule.how} adds differences to the model that all others were tuned from, which is not given"
        raise ModelError(Problem("M192", what, fix="--base MODEL"))
    return next(iter(roots.values()))


def _last(models: Sequence[str], count: int) -> list[Path]:
    """The newest checkpoints of a run's last stage, oldest first, every byte verified."""
    from sartor.store.run import find as find_run

    if len(models) != 1:
        raise ModelError(Problem("M192", f"--last takes the checkpoints of one run, not of {len(models)}"))
    run = find_run(models[0], Path("runs"))
    stages = sorted(run.folder.glob("stages/*/checkpoints"), key=lambda path: int(path.parent.name.partition("-")[0]))
    kept = sorted(stages[-1].glob("step-*")) if stages else []
    if len(kept) < count:
        what = f"this run has kept {len(kept)} checkpoints, and {count} are asked for"
        raise RunError(Problem("F110", what, file=str(run.folder), fix="train.checkpoint.keep: more, before training"))
    for checkpoint in kept[-count:]:
        problems = atomic.verify(checkpoint)
        if problems:
            raise RunError(Problem("F111", f"the checkpoint is damaged: {problems[0]}", file=str(checkpoint)))
    return kept[-count:]


def _pairs(found: Sequence[ModelFolder], checkpoints: Sequence[Path]) -> list[tuple[ModelFolder, Path | None]]:
    return [(found[0], checkpoint) for checkpoint in checkpoints] or [(folder, None) for folder in found]


def named(folder: ModelFolder, checkpoint: Path | None) -> dict[str, Any]:
    """A model by its path and the hash of everything that decides what it computes."""
    files = [*weights(folder.path), *(weights(folder.base.path) if folder.base else ())]
    if checkpoint is not None:
        files = sorted(checkpoint.glob("weights*.safetensors"))
    digest = of_text(json.dumps([[file.name, of_file(file)] for file in files]))
    at = checkpoint or folder.path
    return {
        "model": folder.reference if checkpoint is None else f"{folder.reference} {at.name}",
        "path": str(at),
        "sha256": digest,
    }


def _lineage(
    rule: Rule, models: Sequence[Mapping[str, Any]], base: ModelFolder | None, *, as_adapter: bool
) -> dict[str, Any]:
    return {
        "how": rule.how,
        "as": "adapter" if as_adapter else "model",
        "weights": list(rule.weights),
        "density": rule.density if rule.how in SPARSE else None,
        "seed": rule.seed if rule.how == "dare" else None,
        "models": [dict(model) for model in models],
        "base": None if base is None else named(base, None),
    }


def facts_of(folder: ModelFolder) -> dict[str, Any]:
    """What training noted beside a model, as far as it is true of another form of it."""
    path = folder.path / "sartor.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: facts[key] for key in KEPT_FACTS if key in facts}


def _same_text(folders: Sequence[ModelFolder], emit: Emit) -> None:
    """Raises ModelError M191 where text becomes other tokens; warns with M195 where conversations become another text."""
    first = renderer_for(folders[0])
    for folder in folders[1:]:
        other = renderer_for(folder)
        what = first.vocabulary.difference(other.vocabulary)
        if what is not None:
            said = f"{folder.reference} and {folders[0].reference} do not read text alike: {what}"
            raise ModelError(Problem("M191", said, file=str(folder.path), fix="merge models of one tokenizer"))
        if other.template.source != first.template.source:
            said = f"the chat templates of {folder.reference} and {folders[0].reference} differ; that of the latter is kept"
            emit(Noted("warning", "M195", said))


def model_writers(
    form: Weights, models: Sequence[Weights], base: Weights | None, rule: Rule, emit: Emit
) -> tuple[dict[str, Saver], dict[str, Form]]:
    """Writers of the weights in the files and types of `form`, and of its configuration."""
    for other in [*models[1:], *([base] if base else [])]:
        require_alike(models[0], other)
    tensors, origin = [model.tensors() for model in models], base.tensors() if base else None
    done = 0

    def tensor(name: str, wanted: Form) -> torch.Tensor:
        nonlocal done
        done += 1
        emit(Progressed("tensors", done, len(form.forms)))
        if wanted.dtype not in DTYPES:
            return tensors[0][name]
        made = rule.merge(name, [each[name] for each in tensors], origin[name] if origin else None).to(
            DTYPES[wanted.dtype]
        )
        if not bool(made.isfinite().all()):
            raise ModelError(Problem("M111", f"tensor {name} of the merged model is not finite", fix="smaller weights"))
        return made

    def write(wanted: Mapping[str, Form], path: Path) -> None:
        write_each(path, wanted, lambda name: tensor(form.bare(name), wanted[name]))

    files = {
        file: {name: held[name] for name in held if form.bare(name) in form.forms} for file, held in form.files.items()
    }
    writers: dict[str, Saver] = {file.name: partial(write, wanted) for file, wanted in files.items() if wanted}
    for name in ("config.json", "generation_config.json"):
        if (form.root.path / name).exists():
            writers[name] = partial(_copy, form.root.path / name)
    if (form.root.path / INDEX).exists():
        places = {name: file.name for file, wanted in files.items() for name in wanted}
        total = sum(each.bytes for each in form.forms.values())
        writers[INDEX] = json_writer({"metadata": {"total_size": total}, "weight_map": places})
    return writers, form.forms


def _adapter_writers(adapters: Adapters, facts: dict[str, Any]) -> tuple[dict[str, Saver], dict[str, Form]]:
    """Writers of the adapter and its settings; how its base is held goes into `facts`."""
    from sartor.models.quantization import Quantization
    from sartor.models.weights import ADAPTER

    held = Quantization.of(adapters.folders[0])
    facts["quantization"] = held.json() if held else None
    return {ADAPTER: adapters.write, "adapter_config.json": json_writer(adapters.config)}, adapters.forms


def text_writers(folder: ModelFolder) -> dict[str, Saver]:
    """Tokenizer and template of a model."""
    renderer = renderer_for(folder)
    writers: dict[str, Saver] = {file.name: partial(_copy, file) for file in renderer.vocabulary.files}
    return writers | {"chat_template.jinja": lambda path: _write(renderer.template.source, path)}


def _copy(file: Path, to: Path) -> None:
    shutil.copyfile(file, to)


def _write(text: str, to: Path) -> None:
    to.write_text(text, encoding="utf-8")


def json_writer(body: Mapping[str, Any]) -> Saver:
    """Writes a JSON object."""
    return partial(_write, json.dumps(dict(body), indent=1, ensure_ascii=False) + "\n")
