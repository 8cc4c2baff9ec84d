"""The recipe for editors and readers: its JSON schema, for completion while typing, and its reference page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sartor import registry
from sartor.options import Options
from sartor.recipe import planned, shape
from sartor.recipe.load import CODES
from sartor.recipe.schema import Base, Data, Goal, Of, Recipe, Section, Source, Train
from sartor.recipe.stages import OWN
from sartor.recipe.writing import inline

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHORTHANDS: tuple[type[Section], ...] = (Base, Data, Goal, Source)
STAGES = """\
train:
  - {objective: sft, epochs: 2}
  - {objective: pretrain, data: notes.txt, steps: 100}
"""
SMALLEST = "base: sartor/nano\ndata: tickets.jsonl\ngoal: Answer support tickets as strict JSON\n"


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a recipe, shorthands and the options of every registered component included."""
    schema = Recipe.model_json_schema()
    parts = schema["$defs"]
    for section in SHORTHANDS:
        ways: list[dict[str, Any]] = [parts[section.__name__], {"type": "string", "minLength": 1}]
        if section is Data:
            ways.append(parts["Data"]["properties"]["sources"])
        parts[section.__name__] = {"anyOf": ways, "description": _sentence(section)}
    stage = {**parts["Train"], "properties": {**parts["Train"]["properties"], **_brought(schema["properties"])}}
    stages = {"type": "array", "minItems": 1, "items": {"anyOf": [stage, {"enum": registry.names("objective")}]}}
    parts["Train"] = {"anyOf": [parts["Train"], stages], "description": _sentence(Train)}
    return {"$schema": DIALECT, **schema}


def _brought(properties: dict[str, Any]) -> dict[str, Any]:
    """What a stage of a list may bring along beside the keys of `train`."""
    return {key: properties[meant] for key, meant in OWN.items()}


def json_schema_text() -> str:
    """The schema as a file; `# yaml-language-server: $schema=recipe.schema.json` in a recipe makes an editor use it."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write both into a folder: recipe.md and recipe.schema.json."""
    (folder / "recipe.md").write_text(reference_markdown(), encoding="utf-8")
    (folder / "recipe.schema.json").write_text(json_schema_text(), encoding="utf-8")


def reference_markdown() -> str:
    """The reference page of the recipe: every key, what may stand there, its default and what it does."""
    return "\n".join([*_opening(), *_section("", Recipe), *_closing()])


def _opening() -> Iterator[str]:
    yield from (
        "# The recipe",
        "",
        "Made from the schema by `sartor.recipe.editor.reference_markdown()`; do not edit.",
        "",
    )
    yield "A recipe is one YAML file, read by the rules of YAML 1.2: `yes` is text, `1e-4` is a number. It is strict: an"
    yield "unknown key, a value of the wrong type, a key written twice, an anchor, an alias or a tag is an error that names"
    yield "file, line and column, and all errors are told at once. The smallest recipe:"
    yield from ("", "```yaml", SMALLEST.rstrip(), "```", "")
    yield "**Shorthands.** `base: NAME` is `base: {model: NAME}`; `data: PATH`, or a list of paths, is `data: {sources: [...]}`;"
    yield "`goal: TEXT` is `goal: {statement: TEXT}`; `method: lora` is `method: {lora: {}}`, and so for every component."
    yield ""
    yield "**Stages.** `train` may be a list; each entry has the keys of `train` and, where it does not learn from the recipe's own rows,"
    yield "`data` of its own (`prompts` is the same, for stages that write their answers themselves), and a `method`. A stage begins"
    yield "with the model that the one before has made; a reward model is a judge for the stages after it, not their start. The"
    yield "verdict is about the recipe's `data`. `train[1].epochs=2` overrides one stage, `train.epochs=2` every one."
    yield ""
    yield "```yaml"
    yield from STAGES.rstrip().split("\n")
    yield from ("```", "")
    yield "**Overrides.** `sartor run recipe.yaml train.epochs=3 method.lora.rank=8 data.sources[0].path=b.jsonl` puts values in"
    yield "as if they had been written in the file. Later ones win."
    yield ""
    yield "**auto** is a value found by a rule; `sartor check recipe.yaml --why KEY` says which value and why, and the run"
    yield "folder keeps all of them in `resolved.yaml`."
    yield ""


def _section(prefix: str, model: type[Options]) -> Iterator[str]:
    """The table of a section, then the sections and components below it."""
    yield f"## `{prefix}`" if prefix else "## Top level"
    yield from ("", _sentence(model), "")
    yield from _table(model, prefix)
    yield from _below(prefix, model)


def _below(prefix: str, model: type[Options]) -> Iterator[str]:
    """The sections and components that stand at the keys of a table."""
    for name, info in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        for form in shape.forms(shape.field_type(info)):
            if form.section:
                yield from _section(key, form.section)
            elif form.component:
                yield from _components(key, form.component)
            elif form.items:
                for inner in shape.forms(form.items[0]):
                    if inner.section:
                        yield from _section(f"{key}[]", inner.section)
                    elif inner.component:
                        yield from _components(f"{key}[]", inner.component)


def _components(key: str, component: Of) -> Iterator[str]:
    """Those of a kind that has a page of its own, such as metrics, only where there is something to set."""
    for name in registry.names(component.kind):
        module = registry.component(component.kind, name)
        if component.or_function and not module.Options.model_fields:
            continue
        yield from (f"### `{key}: {name}`", "", (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "), "")
        if module.Options.model_fields:
            yield from _table(module.Options, f"{key}.{name}")
            yield from _below(f"{key}.{name}", module.Options)
        else:
            yield from ("No settings.", "")


def _table(model: type[Options], prefix: str) -> Iterator[str]:
    yield from ("| key | value | default | what it does |", "|---|---|---|---|")
    for name, info in model.model_fields.items():
        annotation = shape.field_type(info)
        key = f"{prefix}.{name}" if prefix else name
        rows = any(
            inner.section for form in shape.forms(annotation) for inner in shape.forms(next(iter(form.items), None))
        )
        sections = [form.section for form in shape.forms(annotation) if form.section]
        if info.is_required():
            default = "required"
        elif sections and isinstance(info.get_default(call_default_factory=True), Options):
            default = "see below"
        else:
            default = f"`{inline(_plain(info.get_default(call_default_factory=True)))}`"
        value = f"section `{key}`" if sections else f"a list of `{key}[]`" if rows else shape.expects(annotation)
        if sections and any(value == "auto" for value in shape.literals(annotation)):
            value += ", or auto"
        yield f"| `{name}` | {_cell(value)} | {default} | {_cell(info.description or '')} |"
    yield ""


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _closing() -> Iterator[str]:
    yield from ("## Not in this version", "", "Known by name, and refused with R107 until they act:", "")
    yield f"- keys: {_listed(planned.KEYS)}"
    for kind, names in planned.NAMES.items():
        yield f"- {kind}: {_listed(names - set(registry.names(kind)))}"
    for key, values in planned.VALUES.items():
        yield f"- `{key}`: {_listed(values)}"
    yield from ("- `train` as a list of stages", "", "## Names", "")
    yield from (f"- {kind}: {_listed(frozenset(registry.names(kind)))}" for kind in ("metric", "format"))
    yield from ("", "## Errors", "", "| code | says |", "|---|---|")
    yield from (f"| {code} | {says} |" for code, says in CODES.items())
    yield ""


def _listed(names: frozenset[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _sentence(model: type[Options]) -> str:
    return " ".join((model.__doc__ or "").split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
