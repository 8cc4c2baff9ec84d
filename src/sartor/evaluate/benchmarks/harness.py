"""Tasks of the lm-evaluation-harness, from files of your own, with intervals and paired differences of ours. Needs sartor[harness].

    benchmarks: [{harness: {tasks: [tasks/pets.yaml, more_tasks/]}}]

A task is the harness's own YAML, its data a file beside it or a path from there; nothing is downloaded. The harness makes the requests
and scores each document; the model answers through our tokenizer, template and generator. Metrics are called
harness_TASK_METRIC in gates and tables. What the harness adds up otherwise than as a mean over documents, or a
perplexity, has no score of its own for each document and is refused.
Gao et al. 2024, "The Language Model Evaluation Harness".
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from sartor.errors import Problem, RecipeError
from sartor.evaluate.suites import Ground, Suite
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

if TYPE_CHECKING:
    from sartor.evaluate.suites import Subject
    from sartor.tokens.batch import Rendered

METRICS = ("harness_*",)
LIBRARY = "lm_eval"
Adds = Literal["mean", "perplexity", "weighted_perplexity", "bits_per_byte"]
ADDS: tuple[Adds, ...] = ("mean", "perplexity", "weighted_perplexity", "bits_per_byte")
"""How the harness adds up documents, where we can as well."""
NEW_TOKENS = 256
"""Of an answer, where a task does not say."""


class Options(Settings):
    """Which tasks, and how they are asked."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1, examples=[["tasks/pets.yaml"]])]
    """YAML files of tasks, or folders of them, from the recipe's folder."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Examples before each document; left out, what the task says."""
    most: Annotated[int, Field(gt=0)] = 500
    """Documents of each task, a fixed sample."""
    chat: bool = False
    """Ask in the model's chat template, the whole prompt as one turn of the user."""


@dataclass(frozen=True, slots=True)
class OfTask:
    """Implements `Metric`: one metric of one task; documents of other tasks count nothing."""

    task: str
    metric: str
    adds: Adds
    higher_is_better: bool
    needs: str = "prediction"

    @property
    def name(self) -> str:
        """With its task."""
        return f"harness_{self.task}_{self.metric}"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (score, weight); zeros for documents of other tasks."""
        return np.array([self._one(outcome) for outcome in outcomes], np.float64).reshape(-1, 2)

    def _one(self, outcome: Outcome) -> tuple[float, float]:
        if outcome.columns.get("task") != self.task:
            return 0.0, 0.0
        score = outcome.columns["scores"][self.metric]
        return (float(score[0]), float(score[1])) if isinstance(score, list | tuple) else (float(score), 1.0)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not-a-number without documents."""
        total, weight = sums[..., 0], sums[..., 1]
        mean: np.ndarray = np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=weight > 0)
        if self.adds == "mean":
            return mean
        found: np.ndarray = -mean / np.log(2) if self.adds == "bits_per_byte" else np.exp(-mean)
        return found


@dataclass(frozen=True, slots=True)
class Harness:
    """Implements `Suite`; a unit is one document of one task."""

    tasks: Mapping[str, Any]
    units: Sequence[tuple[str, int]]
    metrics: Sequence[Metric]
    shots: int | None
    chat: bool
    seed: int
    speaks: bool = True

    @property
    def title(self) -> str:
        """Of its section."""
        return "Tasks of the evaluation harness"

    @property
    def why(self) -> str:
        """What is measured."""
        return f"{', '.join(self.tasks)}: tasks of lm-evaluation-harness, scored document by document by the harness itself"

    def __len__(self) -> int:
        """Documents of all tasks."""
        return len(self.units)

    def measure(self, model: Subject, units: Sequence[int]) -> Iterator[Outcome]:
        """One outcome for each document."""
        from lm_eval.evaluator import simple_evaluate

        asked = [self.units[unit] for unit in units]
        wanted: dict[str, list[int]] = {}
        for task, document in asked:
            wanted.setdefault(task, []).append(document)
        result = simple_evaluate(
            wrapped(model, chat=self.chat, seed=self.seed),
            tasks=[self.tasks[task] for task in wanted],
            num_fewshot=self.shots,
            samples=wanted,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
            fewshot_random_seed=self.seed,
        )
        found: dict[tuple[str, int], Outcome] = {}
        for task in wanted:
            for sample in result["samples"][task]:
                key = (task, int(sample["doc_id"]))
                found[key] = _outcome(task, sample, found.get(key))
        yield from (found[key] for key in asked)


def _outcome(task: str, sample: Mapping[str, Any], before: Outcome | None) -> Outcome:
    """A document; `before` is the same one under another filter of the task."""
    scores: dict[str, Any] = {} if before is None else dict(before.columns["scores"])
    for metric in sample["metrics"]:
        value = sample[metric]
        plain = [float(part) for part in value] if isinstance(value, list | tuple) else float(value)
        scores[_called(metric, sample["filter"])] = plain
    arguments = sample["arguments"]
    first = next(iter(arguments.values())) if isinstance(arguments, Mapping) else arguments[0]
    prompt = next(iter(first.values())) if isinstance(first, Mapping) else first[0]
    said = sample["filtered_resps"]
    answer = said[0] if len(said) == 1 and isinstance(said[0], str) else json.dumps(said, default=str)
    return Outcome(
        id=f"{task}:{sample['doc_id']}",
        prompt=str(prompt),
        reference=str(sample["target"]),
        prediction=answer,
        columns={"task": task, "scores": scores},
    )


def _called(metric: str, filter_: str) -> str:
    return metric if filter_ == "none" else f"{metric}_{filter_}"


def files(options: Options) -> list[str]:
    """What is read; the data of tasks is named in them."""
    return [name for name in options.tasks if name.endswith((".yaml", ".yml"))]


def suite(options: Options, ground: Ground) -> Suite:
    """Read the tasks and their data. Raises RecipeError R148 without the library, R154 for what is no task that can be scored."""
    if find_spec(LIBRARY) is None:
        what = f"benchmark harness needs the library {LIBRARY}, which is not installed"
        raise RecipeError(Problem("R148", what, fix='pip install "sartor[harness]"'))
    tasks: dict[str, Any] = {}
    for name in options.tasks:
        tasks |= _read(name, ground.root)
    metrics = [metric for task in tasks for metric in _metrics(task, tasks[task])]
    units: list[tuple[str, int]] = []
    for place, (task, loaded) in enumerate(tasks.items()):
        drawn = np.random.default_rng([ground.seed, 12, place]).permutation(len(loaded.eval_docs))[: options.most]
        units += [(task, int(document)) for document in np.sort(drawn)]
    return Harness(tasks, units, metrics, options.shots, options.chat, ground.seed)


def _read(name: str, root: Path) -> dict[str, Any]:
    """The tasks of a file or folder, by their names; paths of data are read from the folder of each."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    logging.getLogger(LIBRARY).setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager

    path = (root / Path(name).expanduser()).resolve()
    paths = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
    if not paths or not all(each.is_file() for each in paths):
        raise RecipeError(
            Problem("R154", "there is no task here", file=name, fix="a YAML file of the harness, or a folder")
        )
    manager = TaskManager(include_defaults=False)
    found: dict[str, Any] = {}
    for each in paths:
        try:
            with chdir(each.parent):
                found |= manager.load([str(each)])["tasks"]
        except (KeyError, TypeError, ValueError, OSError, ConnectionError) as fault:
            what = f"the harness cannot read this task: {str(fault).splitlines()[0] if str(fault) else type(fault).__name__}"
            fix = "dataset_path: json with data_files beside the task; nothing is downloaded"
            raise RecipeError(Problem("R154", what, file=str(each), fix=fix)) from fault
    return found


def _metrics(name: str, task: Any) -> Iterator[OfTask]:
    directions = task.higher_is_better()
    filters = [each["name"] for each in task.config.filter_list or ()] or ["none"]
    for metric, adding in task.aggregation().items():
        adds = getattr(adding, "__name__", "")
        if adds not in ADDS:
            what = f"task {name} adds up {metric} by {adds or adding}, which gives no score for each document"
            raise RecipeError(
                Problem("R154", what, fix="metrics of that task that are means, such as acc or exact_match")
            )
        for each in filters:
            yield OfTask(name, _called(metric, each), adds, bool(directions[metric]))


def wrapped(model: Subject, *, chat: bool, seed: int) -> Any:
    """The model as the harness asks it: an `lm_eval.api.model.LM`."""
    from lm_eval.api.model import LM

    asking = Asking(model, chat, seed)

    class Wrapped(LM):  # type: ignore[misc]
        """Hands every request on."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """(log-probability in nats, whether it is what the model would say) of each continuation."""
            return asking.continuations([request.args for request in requests])

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            """Log-probability of each text."""
            return asking.texts([request.args[0] for request in requests])

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """An answer to each prompt, up to the first of its stop strings."""
            return asking.answers([request.args for request in requests])

    return Wrapped()


@dataclass(frozen=True, slots=True)
class Asking:
    """Requests of the harness as tokens of the model."""

    model: Subject
    chat: bool
    seed: int

    def _before(self, context: str) -> list[int]:
        """Ids of what stands before a continuation; never empty."""
        from sartor.data.rows import Message

        renderer = self.model.renderer
        if self.chat:
            return [int(index) for index in renderer.prompt((Message("user", context),))]
        vocabulary = renderer.vocabulary
        ids = [*vocabulary.frame.single[0], *vocabulary.encode(context, special=True)]
        start = vocabulary.bos_id if vocabulary.bos_id is not None else vocabulary.eos_id
        return ids or [0 if start is None else start]

    def _pair(self, context: str, continuation: str) -> Rendered:
        """A context and its continuation, cut apart where the tokens of both together say; spaces belong to what follows."""
        from sartor.tokens.batch import Rendered

        if self.chat:
            before = self._before(context)
            after = self.model.renderer.vocabulary.encode(continuation, special=True)
        else:
            kept = context.rstrip()
            continuation, context = context[len(kept) :] + continuation, kept
            before, both = self._before(context), self._before(context + continuation)
            after = (
                both[len(before) :] if context else self.model.renderer.vocabulary.encode(continuation, special=True)
            )
        weight = np.concatenate([np.zeros(len(before), np.float32), np.ones(len(after), np.float32)])
        return Rendered(np.array([*before, *after], np.int32), weight, 0)

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """(log-probability, whether each token is the likeliest) of each."""
        from sartor.evaluate.likelihood import likelihood_and_greedy

        nll, greedy = likelihood_and_greedy(self.model.policy, [self._pair(*pair) for pair in pairs])
        return [(-float(value), bool(best)) for value, best in zip(nll, greedy, strict=True)]

    def texts(self, texts: Sequence[str]) -> list[float]:
        """Log-probability of each whole text, from its first token on."""
        from sartor.evaluate.likelihood import likelihood
        from sartor.tokens.batch import Rendered

        rows = []
        for text in texts:
            before = self._before("") if not self.chat else Asking(self.model, False, self.seed)._before("")
            ids = [*before, *self.model.renderer.vocabulary.encode(text, special=True)]
            weight = np.concatenate([np.zeros(len(before), np.float32), np.ones(len(ids) - len(before), np.float32)])
            rows.append(Rendered(np.array(ids, np.int32), weight, 0))
        nll, _ = likelihood(self.model.policy, rows)
        return [-float(value) for value in nll]

    def answers(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Text up to the first stop string, the string left out."""
        from sartor.generate.local import LocalGenerator

        policy, renderer = self.model.policy, self.model.renderer
        generator = LocalGenerator(
            policy, renderer.stop_ids, renderer.vocabulary.pad_id or 0, renderer.text, self.model.batch
        )
        prompts, limits, found = [], [], [""] * len(asked)
        for context, how in asked:
            limit = int(how.get("max_gen_toks", NEW_TOKENS))
            ids = self._before(context)
            window = policy.window
            prompts.append(
                ids if window is None or len(ids) + limit <= window else ids[-max(window - limit, window // 2) :]
            )
            limits.append(limit)
        temperatures = {float(how.get("temperature", 0.0)) if how.get("do_sample") else 0.0 for _, how in asked}
        for temperature in sorted(temperatures):
            places = [
                place
                for place, (_, how) in enumerate(asked)
                if (float(how.get("temperature", 0.0)) if how.get("do_sample") else 0.0) == temperature
            ]
            made = generator.generate(
                [prompts[place] for place in places],
                max_new_tokens=[limits[place] for place in places],
                temperature=temperature,
                seed=self.seed,
            )
            for index, text, _ in made:
                found[places[index]] = _cut(text, asked[places[index]][1].get("until") or ())
        return found


def _cut(text: str, until: Sequence[str] | str) -> str:
    ends = [until] if isinstance(until, str) else until
    places = [text.find(end) for end in ends if end]
    found = [place for place in places if place >= 0]
    return text[: min(found)] if found else text
