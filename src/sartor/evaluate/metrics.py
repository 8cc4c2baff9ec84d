"""From names in a recipe to metrics: those of the registry, and functions in the user's own files (`metrics.py:field_f1`)."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from traceback import walk_tb
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from sartor import registry
from sartor.errors import InputError, Problem, RecipeError
from sartor.metrics._answers import choice
from sartor.metrics._json import parse
from sartor.metrics._mean import ratio
from sartor.metrics._own import judged
from sartor.options import Options
from sartor.protocols import Metric, Outcome
from sartor.recipe.schema import Component

JSON_SHARE = 0.95
"""Share of references that must be JSON objects for the JSON metrics to be the default."""

DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "classify": ("accuracy", "macro_f1"),
    "regress": ("rmse", "mae", "pearson", "spearman"),
    "tag": ("tag_f1", "tag_accuracy"),
    "pretrain": ("perplexity", "bits_per_byte"),
    "prefer": (
        "preference_accuracy",
        "preference_margin",
        "preference_accuracy_per_token",
        "preference_margin_per_token",
    ),
    "chat": ("perplexity", "exact_match", "rougeL"),
    "generate": ("perplexity", "exact_match", "rougeL"),
}
JSON_DEFAULTS = ("field_f1", "json_valid", "exact_match", "perplexity")


def defaults(task: str, references: Sequence[str] = ()) -> list[str]:
    """The metrics of a task, the main one first. Where the references are JSON objects, their fields are what counts."""
    if task in ("chat", "generate") and references:
        objects = sum(isinstance(parse(reference.strip()), dict) for reference in references)
        if objects >= JSON_SHARE * len(references):
            return list(JSON_DEFAULTS)
    return list(DEFAULTS[task])


def of_answers(*, verdicts: bool, reward: bool) -> list[str]:
    """The metrics of compared answers: a verdict alone makes no pair, and a reward is none of single tokens."""
    if verdicts:
        return ["preference_margin_per_token", "preference_margin"]
    return ["preference_accuracy"] if reward else list(DEFAULTS["prefer"])


def wants(metrics: Sequence[Metric], task: str) -> frozenset[str]:
    """What must be measured of a model that writes: prediction, label, nll. Without labels to score, a metric of labels judges
    the generated text, and a number is read from it."""
    scored = "label" if task == "classify" else "prediction"
    instead = {"label": scored, "probabilities": scored, "value": "prediction", "tags": "prediction"}
    return frozenset(instead.get(metric.needs, metric.needs) for metric in metrics)


def name_of(wanted: str | Component) -> str:
    """What a metric is called in gates and tables."""
    return wanted if isinstance(wanted, str) else wanted.name


def load(wanted: Sequence[str | Component], root: Path) -> list[Metric]:
    """These metrics in order, each once; files are looked up from `root`. A bare name means the one with options, if there
    is one of that name, else the metric as it is without.

    A user's function takes (prediction, reference) or (prediction, reference, columns) and returns a number or a bool;
    `@sartor.metric(higher_is_better=False)` turns its direction.

    Raises RecipeError with everything that is wrong: R140 unknown, R141 no such file, R142 the file fails, R143 no such
    function, R144 wrong arguments, R149 options that are missing or given twice, and what the metric itself refuses.
    """
    found: list[Metric] = []
    problems: list[Problem] = []
    for name, options in _each_once(wanted, problems).items():
        try:
            found.append(
                _custom(name, root) if ":" in name or name.endswith(".py") else _registered(name, options, root)
            )
        except RecipeError as error:
            problems.extend(error.problems)
    if problems:
        raise RecipeError(*problems)
    return found


def _each_once(wanted: Sequence[str | Component], problems: list[Problem]) -> dict[str, Options | None]:
    """Name -> options, None where only the bare name is given; a name with two different options is a problem."""
    found: dict[str, Options | None] = {}
    for one in wanted:
        name, options = name_of(one), None if isinstance(one, str) else one.options
        before = found.setdefault(name, options)
        if before is None:
            found[name] = options
        elif options not in (None, before):
            what = f"{name} is measured twice with different options, and a gate or a table could not tell them apart"
            problems.append(Problem("R149", what, fix="keep one; a second one as file.py:function"))
    return found


def _registered(name: str, options: Options | None, root: Path) -> Metric:
    known = registry.names("metric")
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f'; did you mean "{near[0]}"?' if near else ""
        raise RecipeError(
            Problem("R140", f'unknown metric "{name}"{meant}', fix=f"one of {', '.join(known)}, or file.py:function")
        )
    module = registry.component("metric", name)
    metric: Metric = (
        module.metric(_plain(name) if options is None else options, root) if takes_options(module) else module.METRIC
    )
    return metric


def takes_options(module: ModuleType) -> bool:
    """Whether a metric is made by `metric(options, root)`; the others are the constant `METRIC`."""
    return hasattr(module, "metric")


def _plain(name: str) -> Options:
    """A metric's options as they are when nothing is said."""
    kind: type[Options] = registry.component("metric", name).Options
    needed = [key for key, field in kind.model_fields.items() if field.is_required()]
    if needed:
        given = ", ".join(f"{key}: ..." for key in needed)
        what = f"{name} needs {' and '.join(needed)}"
        raise RecipeError(Problem("R149", what, fix=f"evaluate.metrics: [{{{name}: {{{given}}}}}]"))
    return kind()


@dataclass(frozen=True, slots=True)
class _Custom:
    """The mean over rows of a user's function. Statistics per row: (result, 1)."""

    name: str
    file: Path
    function: Callable[..., Any]
    columns: bool
    """Whether the function takes the row's other columns as a third argument."""
    higher_is_better: bool
    needs: str

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]. Raises InputError E101 where the function raises, E102 where it returns no finite number."""
        return np.array([(self._score(outcome), 1.0) for outcome in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        return ratio(sums[..., 0], sums[..., 1])

    def _score(self, outcome: Outcome) -> float:
        answer = choice(outcome) if self.needs == "label" else outcome.prediction or ""
        arguments: list[Any] = [answer, outcome.reference]
        if self.columns:
            arguments.append(dict(outcome.columns))
        with _UsersCode(self.file, InputError, "E101", f"{self.name} failed on row {outcome.id}"):
            result = self.function(*arguments)
        score = _number(result)
        if score is None:
            raise InputError(
                Problem(
                    "E102",
                    f"{self.name} returned {_short(result)} for row {outcome.id}; a finite number or a bool is needed",
                    file=str(self.file),
                    line=self.function.__code__.co_firstlineno,
                )
            )
        return score


@dataclass(frozen=True, slots=True)
class Batched:
    """A user's function of many answers at once: (answers, rows) -> a number for each."""

    name: str
    file: Path
    function: Callable[..., Any]

    def __call__(self, answers: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """A number for each answer, not-a-number where it says None. Raises InputError E101 where it raises, E102 where it
        returns anything else."""
        with _UsersCode(self.file, InputError, "E101", f"{self.name} failed"):
            result = self.function(list(answers), [dict(row) for row in rows])
        given = result if isinstance(result, list | tuple | np.ndarray) else ()
        scores = [math.nan if each is None else _number(each) for each in given]
        found = [score for score in scores if score is not None]
        if len(found) == len(scores) == len(answers):
            return found
        what = f"{self.name} returned {_short(result)}, where a list of {len(answers)} finite numbers is needed"
        fix = "return one number for each answer, None where it cannot be told"
        line = self.function.__code__.co_firstlineno
        raise InputError(Problem("E102", what, file=str(self.file), line=line, fix=fix))


def batched(name: str, root: Path) -> Batched:
    """The function `file.py:function` of (answers, rows). Raises RecipeError R141 to R144."""
    file, function = _function(name, root)
    signature = inspect.signature(function)
    try:
        signature.bind([], [])
    except TypeError as fault:
        what = f"{function.__name__}{signature} cannot be called"
        fix = f"def {function.__name__}(answers: list[str], rows: list[dict]) -> list[float]"
        line = function.__code__.co_firstlineno
        raise RecipeError(Problem("R144", what, file=str(file), line=line, fix=fix)) from fault
    return Batched(name, file, function)


def _number(result: object) -> float | None:
    if not isinstance(result, bool | int | float | np.bool_ | np.integer | np.floating):
        return None
    try:
        score = float(result)
    except OverflowError:
        return None
    return score if math.isfinite(score) else None


def _custom(name: str, root: Path) -> Metric:
    file, function = _function(name, root)
    return _Custom(
        name,
        file,
        function,
        _takes_columns(function, file),
        higher_is_better=bool(getattr(function, "higher_is_better", True)),
        needs=judged(function),
    )


def _function(name: str, root: Path) -> tuple[Path, Callable[..., Any]]:
    """The file and the function of `file.py:function`. Raises RecipeError."""
    path, _, function_name = name.rpartition(":")
    if not path or not function_name:
        raise RecipeError(Problem("R143", f'"{name}" names no function', fix=f"{name.rstrip(':')}:function"))
    file = root / path
    if not file.is_file():
        raise RecipeError(Problem("R141", f"{file} does not exist", fix="paths start at the recipe's folder"))
    module = _imported(file)
    function = getattr(module, function_name, None)
    if not inspect.isfunction(function):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise RecipeError(
            Problem("R143", f'no function "{function_name}"', file=str(file), fix=f"it has {', '.join(own) or 'none'}")
        )
    return file, function


def _imported(file: Path) -> ModuleType:
    name = f"sartor_metric_{sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RecipeError(Problem("R142", "not a Python file", file=str(file), fix="give it the ending .py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with _UsersCode(file, RecipeError, "R142", "the file cannot be imported"):
        spec.loader.exec_module(module)
    return module


def _takes_columns(function: Callable[..., Any], file: Path) -> bool:
    signature = inspect.signature(function)
    for count in (3, 2):
        try:
            signature.bind(*["argument"] * count)
        except TypeError:
            continue
        return count == 3
    raise RecipeError(
        Problem(
            "R144",
            f"{function.__name__}{signature} cannot be called",
            file=str(file),
            line=function.__code__.co_firstlineno,
            fix=f"def {function.__name__}(prediction: str, reference: str) -> float, or with a third argument columns",
        )
    )


@dataclass(frozen=True, slots=True)
class _UsersCode:
    """Around a call into the user's file: whatever it raises becomes one coded problem at the line that raised it."""

    file: Path
    error: type[InputError]
    code: str
    what: str

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(raised, Exception | SystemExit):
            return
        inside = [line for frame, line in walk_tb(trace) if Path(frame.f_code.co_filename) == self.file]
        line = inside[-1] if inside else raised.lineno if isinstance(raised, SyntaxError) else None
        said = raised.msg if isinstance(raised, SyntaxError) else str(raised)
        what = f"{self.what}: {type(raised).__name__}" + (f": {_short(said, quoted=False)}" if said else "")
        raise self.error(Problem(self.code, what, file=str(self.file), line=line, fix="mend the function")) from raised


def _short(value: object, *, quoted: bool = True) -> str:
    text = " ".join((repr(value) if quoted else str(value)).split())
    return text if len(text) <= 200 else text[:199] + "…"
