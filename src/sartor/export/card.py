"""The model card: what the model is for, what it was made of, and how it did, failures included; Markdown for people and hubs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from sartor import registry
from sartor.markdown import one_line, table, text
from sartor.metrics._numbers import comparison_cells, score_text

if TYPE_CHECKING:
    from sartor.evaluate.facts import ReportFacts


def model_card(facts: ReportFacts) -> str:
    """Markdown with YAML front matter as model hubs read it. No text of the user can break out of its place."""
    blocks = [_front_matter(facts), f"# {text(facts.title)}", f"**{text(facts.verdict['sentence'])}**"]
    blocks += ["## Intended use", _use(facts), "## Training data", *_data(facts), "## Evaluation", *_evaluation(facts)]
    blocks += ["## Limits", _limits(facts), "## How to load", _load(facts), "## How it was made", _made(facts)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _adapter(facts: ReportFacts) -> bool:
    name = facts.method.split(",")[0].strip()
    return name in registry.names("method") and registry.component("method", name).SAVES == "adapter"


def _front_matter(facts: ReportFacts) -> str:
    fields: dict[str, Any] = {
        "base_model": one_line(facts.base) or None,
        "base_model_relation": "adapter" if _adapter(facts) else "finetune",
        "library_name": "peft" if _adapter(facts) else "transformers",
        "pipeline_tag": "text-generation",
        "license": one_line(facts.license) or None,
        "datasets": [one_line(PurePath(file.path).name) for file in facts.data.files] or None,
        "metrics": [one_line(metric["name"]) for metric in facts.comparison["metrics"]],
        "tags": ["sartor"],
    }
    known = {key: value for key, value in fields.items() if value is not None}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=10_000).strip()}\n---"


def _use(facts: ReportFacts) -> str:
    told = (
        text(facts.statement)
        or f"A model for the task {text(facts.task) or 'of its training rows'}; no goal was written down."
    )
    return f"{told}\n\nIt was tuned from {text(facts.base) or 'a base model'} for this and measured on nothing else."


def _data(facts: ReportFacts) -> Iterator[str]:
    data = facts.data
    parts = ", ".join(f"{count:,} {name}" for name, count in data.parts.items())
    yield f"{data.rows:,} rows{f': {parts}' if parts else ''}. Near copies of a row always stay in the same part."
    if data.files:
        lines = [(text(f.path), text(f.format), f"{f.records:,}", f"{f.skipped:,}") for f in data.files]
        yield table(("file", "read as", "records", "bad"), lines)
    changed = [f"{text(step.stage)} {step.changed:,}" for step in data.cleaned if step.changed]
    if changed:
        yield f"Cleaned before training, rows changed by each stage: {', '.join(changed)}."
    if data.dropped:
        yield f"Left out, {_rows(sum(entry.rows for entry in data.dropped))} in all:"
        yield "\n".join(f"- {_rows(entry.rows)}, {text(entry.rule)}: {text(entry.reason)}" for entry in data.dropped)
    if data.made:
        ways = ", ".join(f"{made.rows:,} by {text(made.way)} from {made.parents:,}" for made in data.made)
        yield f"Rows made from training rows, and trained on beside them: {ways}."
    if data.residual:
        told = ", ".join(f"{text(name)} {score_text(value, False)}" for name, value in data.residual.items())
        yield f"Similarity left between the parts, where 1 is a copy: {told}."


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _evaluation(facts: ReportFacts) -> Iterator[str]:
    comparison = facts.comparison
    level = f"{100 * comparison['confidence']:g} %"
    yield f"{comparison['rows']:,} test rows, {level} intervals, differences row by row."
    head, *rows = comparison_cells(comparison, text)
    yield table(head, rows)
    if facts.verdict["gates"]:
        yield "Success was defined before training:"
        yield "\n".join(
            f"- {'passed' if gate['pass'] else '**failed**'}: {text(gate['metric'])} {text(gate['rule'].replace('_', ' '))}. "
            f"{text(gate.get('note', ''))}"
            for gate in facts.verdict["gates"]
        )


def _limits(facts: ReportFacts) -> str:
    comparison = facts.comparison
    limits = [
        "The scores hold for rows like the test rows; other uses, languages and groups of people were not measured."
    ]
    if comparison["small"]:
        limits.append(f"Only {comparison['rows']} test rows: the numbers are a hint, not a measurement.")
    if facts.test_accesses is not None and facts.test_accesses > len(comparison["models"]):
        limits.append("The test rows were opened more than once for each model, so the scores may flatter.")
    worse = [
        f"{metric['name']} than {model}"
        for metric in comparison["metrics"]
        for model, difference in metric["differences"].items()
        if difference["word"] == "worse"
    ]
    limits += [f"Worse in {text(entry)}." for entry in worse]
    flips = comparison["flips"]
    if flips and flips["worse_count"]:
        limits.append(
            f"{flips['worse_count']:,} of {comparison['rows']:,} test rows got worse by {text(flips['metric'])}; "
            "the report shows them."
        )
    return "\n".join(f"- {limit}" for limit in limits)


def _load(facts: ReportFacts) -> str:
    plain = ["from transformers import AutoModelForCausalLM, AutoTokenizer", "", 'folder = "path/to/this/folder"']
    if _adapter(facts):
        plain[0] = "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"
    kind = "AutoPeftModelForCausalLM" if _adapter(facts) else "AutoModelForCausalLM"
    plain += [f"model = {kind}.from_pretrained(folder)", "tokenizer = AutoTokenizer.from_pretrained(folder)"]
    return (
        "```python\n"
        + "\n".join(plain)
        + "\n```\n\nOr `sartor chat path/to/this/folder`. The chat template is part of the folder: use it."
    )


def _plain(value: object) -> object:
    return ", ".join(f"{key} {entry}" for key, entry in value.items()) if isinstance(value, Mapping) else value


def _made(facts: ReportFacts) -> str:
    made: dict[str, Any] = {"method": facts.method, "made": facts.created}
    made |= {f"weights kept from step{f' of {each.name}' * bool(each.name)}": each.chosen for each in facts.curves}
    made |= {setting.key: setting.value for setting in facts.settings if setting.key.startswith(("train.", "method"))}
    made |= {key: _plain(value) for key, value in facts.environment.items()}
    return table(("", ""), [(text(key), text(value)) for key, value in made.items() if value not in (None, "", [])])
