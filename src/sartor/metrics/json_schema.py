"""Share of answers that are JSON and nothing else, and valid by a JSON schema of yours: {"queue": 3} is not, where it says string.

    metrics: [{json_schema: {file: schema.json}}]
    metrics: [{json_schema: {inline: {type: object, required: [queue]}}}]

Through jsonschema, by the draft the schema names in `$schema` (2020-12 where it names none). `format` is not checked, as the
standard leaves it; a `$ref` may lead anywhere inside the schema, and never to another address. What is wrong with which answer
stands in the report.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from sartor.errors import Problem, RecipeError
from sartor.metrics._answers import text
from sartor.metrics._json import INVALID, parse
from sartor.metrics._reasons import Judged, Reasoned, one_by_one
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome
from sartor.recipe.schema import Rule

__all__ = ["Options", "metric"]

TOLD = 3
"""Faults of one answer that are listed."""


class Options(Settings):
    """The schema; exactly one of the two."""

    file: str | None = None
    """Path of the schema, from the recipe's folder."""
    inline: dict[str, Any] | None = None
    """The schema itself."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.inline is None):
            raise Rule("json_schema needs a schema: either file or inline", "file")
        return self


def metric(options: Options, root: Path) -> Metric:
    """The metric. Raises RecipeError E106 for a schema that cannot be read, or is none."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    where = None if options.file is None else str(root / options.file)
    schema = options.inline if options.file is None else _read(root / options.file)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        what = f"this is no JSON schema: {error.message} at {error.json_path}"
        raise RecipeError(Problem("E106", what, file=where, fix="mend the schema")) from error
    validator = kind(schema, registry=Registry())

    def judge(outcome: Outcome) -> Judged:
        value = parse(text(outcome))
        if value is INVALID:
            return Judged(0.0, (("", "no JSON"),))
        try:
            faults = sorted(validator.iter_errors(value), key=lambda fault: fault.json_path)
        except Unresolvable as error:
            what = f"the schema refers to something that it does not hold: {error.ref}"
            raise RecipeError(Problem("E106", what, file=where, fix="put it under $defs")) from error
        return Judged(float(not faults), tuple((fault.json_path, fault.message) for fault in faults[:TOLD]))

    return Reasoned("json_schema", one_by_one(judge), "Answers that break the JSON schema", ("place", "what is wrong"))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"the schema cannot be read: {error.strerror}"
        raise RecipeError(Problem("E106", what, file=str(path), fix="paths start at the recipe's folder")) from error
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise RecipeError(Problem("E106", f"this is no JSON: {error}", file=str(path), line=line)) from error
