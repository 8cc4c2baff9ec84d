"""No dead knobs: every key of the recipe has a probe here that fails where the key has no effect. A new key needs one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import exported
import job
import pytest
import rated
import seeing
import torch
import yaml
from contract.cases import Case

from sartor import registry
from sartor.advise.parallel import ONE, Processes
from sartor.errors import InputError, RecipeError, SartorError
from sartor.evaluate.metrics import load as load_metrics
from sartor.events import Stepped
from sartor.flow import train as training
from sartor.flow.check import check
from sartor.flow.human import Wanted, begin
from sartor.flow.measure import bench
from sartor.flow.prepare import Prepared, prepare
from sartor.flow.run import Ran, run
from sartor.models.policy import CausalPolicy
from sartor.protocols import Outcome
from sartor.recipe.load import load
from sartor.recipe.shape import knobs
from sartor.store import environment
from sartor.tokens.batch import Batch


def quiet(event: object) -> None:
    """Shows nothing."""


class Workbench:
    """A recipe over a tiny model, with changes, taken as far as a probe needs."""

    def __init__(self, root: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.model, self.patch, self.count = root, model, monkeypatch, 0
        train = {"steps": 2, "schedule": {"constant": {"warmup": 0.0}}}
        self.recipe(train=train, evaluate={"against": ["base"], "metrics": ["perplexity"]})

    def recipe(self, rows: Sequence[Any] | None = None, **changes: Any) -> None:
        """Start from another recipe or from other rows."""
        self.path = job.write(self.root, job.recipe(self.model, **changes), rows)

    def without(self, *sections: str) -> None:
        """Leave keys of the file to their defaults: `train`, `train.batch`."""
        body = yaml.safe_load(self.path.read_text())
        for key in sections:
            *above, last = key.split(".")
            section = body
            for name in above:
                section = section[name]
            del section[last]
        self.path.write_text(yaml.safe_dump(body, sort_keys=False))

    def _new(self) -> Path:
        self.count += 1
        return self.root / f"out-{self.count}"

    def checked(self, *overrides: str) -> dict[str, Any]:
        """What `sartor check --json` says, apart from the values themselves."""
        told = check(self.path, overrides, quiet).json()
        return {"plan": told["plan"], "data": told["data"]}

    def prepared(self, *overrides: str, processes: Processes = ONE) -> Prepared:
        """The recipe with its rows as tokens."""
        folder = self._new()
        folder.mkdir()
        return prepare(load(self.path, overrides), folder, quiet, processes=processes)

    def bench(self, *overrides: str) -> Any:
        """What models are measured with."""
        return bench(self.prepared(*overrides), quiet)

    def trained(self, *overrides: str) -> Trained:
        """Train without measuring; what has been trained once in this file is not trained again."""
        key = (self.path.read_text(), (self.root / "orders.jsonl").read_text(), overrides)
        if key not in TRAINED:
            TRAINED[key] = self._train(*overrides)
        return TRAINED[key]

    def _train(self, *overrides: str) -> Trained:
        prepared = self.prepared(*overrides)
        policy = training.open_base(prepared, quiet)
        training.attach(prepared, policy)
        events: list[Any] = []
        folder = self._new()
        tools = bench(prepared, quiet)
        training.train(prepared, policy, folder, events.append, tools=tools, owner="x", stop_asked=lambda: False)
        steps = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
        return Trained({name: p.detach().clone() for name, p in policy.trainable().items()}, events, steps)

    def ran(self, *overrides: str) -> Ran:
        """The whole run."""
        return run(self.path, self._new(), overrides, (), quiet)

    def refused(self, *overrides: str) -> str:
        """What is said when these changes are refused."""
        with pytest.raises(InputError) as caught:
            self.bench(*overrides)
        return str(caught.value)


@dataclass
class Trained:
    """What training gave."""

    weights: dict[str, torch.Tensor]
    events: list[Any]
    checkpoints: list[str]

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    def same(self, other: Trained) -> bool:
        if self.weights.keys() != other.weights.keys():
            return False
        return all(torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items())


TRAINED: dict[Any, Trained] = {}
Probe = Callable[[Workbench], None]


def moves(*overrides: str, before: Sequence[str] = (), **recipe: Any) -> Probe:
    """Training with the change ends at other weights."""

    def probe(at: Workbench) -> None:
        if recipe:
            at.recipe(**recipe)
        assert not at.trained(*before, *overrides).same(at.trained(*before))

    return probe


def the_tower_moves_as_asked(at: Workbench) -> None:
    """Of a vision-text base the part that looks at pixels is among what moves, or not; another base is refused."""
    assert "train.vision" in at.refused("train.vision=trained")
    at.model = seeing.save_model(at.root / "sees")
    at.recipe(seeing.squares(at.root, 24), method="full", train={"steps": 1})
    frozen, trained = (set(at.trained(*more).weights) for more in ((), ("train.vision=trained",)))
    assert frozen < trained
    assert all("vision" in name for name in trained - frozen)


def plans(override: str, place: str, before: Sequence[str] = (), drop: Sequence[str] = ()) -> Probe:
    """`sartor check` says something else at `place`."""

    def probe(at: Workbench) -> None:
        at.without(*drop)
        told = [at.checked(*before, *more) for more in ((), (override,))]
        for step in place.split("."):
            told = [each[step] for each in told]
        assert told[0] != told[1]

    return probe


def measures(override: str, field: str, before: Sequence[str] = (), drop: Sequence[str] = ()) -> Probe:
    """Models are measured with another `field` of the bench."""

    def probe(at: Workbench) -> None:
        at.without(*drop)
        one, two = (getattr(at.bench(*before, *more), field) for more in ((), (override,)))
        assert one != two

    return probe


def settles(override: str, field: str) -> Probe:
    """The plan of training has another `field`."""

    def probe(at: Workbench) -> None:
        at.without(f"train.{override.partition('=')[0].split('.')[1]}") if override.startswith("train.batch") else None
        one, two = (getattr(at.prepared(*more).settings, field) for more in ((), (override,)))
        assert one != two

    return probe


def tells(override: str, file: str, wanted: str) -> Probe:
    """A file of the run folder contains `wanted` with the change, and does not without."""

    def probe(at: Workbench) -> None:
        plain, changed = ((at.ran(*more).folder / file).read_text() for more in ((), (override,)))
        assert wanted in changed
        assert wanted not in plain

    return probe


def an_export_is_written(at: Workbench) -> None:
    assert (at.ran("export=[merged]").folder / "exports" / "merged" / "certificate.json").exists()


def exports(name: str, file: str, **options: Any) -> Probe:
    """What an exporter writes is another file with the option."""

    def probe(at: Workbench) -> None:
        exported.needs(name)
        given = exported.subject(at.model)
        told = [exported.made(name, given, at._new(), **more) / file for more in ({}, options)]
        assert told[0].read_bytes() != told[1].read_bytes()

    return probe


def says(override: str, wanted: str, rows: Sequence[Any] | None = None) -> Probe:
    """The change is refused with a reason, and the recipe works without it."""

    def probe(at: Workbench) -> None:
        if rows is not None:
            at.recipe(rows)
        at.checked()
        assert wanted in at.refused(override)

    return probe


def gates(one: str, other: str) -> Probe:
    """Of two gates on the same run the first passes and the second fails."""

    def probe(at: Workbench) -> None:
        gates = f"goal.success=[{{{one}}}, {{{other}}}]"
        assert tuple(each["pass"] for each in at.ran(gates, *EASY).verdict["gates"]) == (True, False)

    return probe


EASY = ("train.steps=8", "method=full", "train.optimizer.adamw.learning_rate=0.02")
"""Eight steps after which the model is clearly better."""


def a_gate_asks_for_its_confidence(at: Workbench) -> None:
    rule = "metric: perplexity, better_than: base, confidence"
    decided = at.ran(f"goal.success=[{{{rule}: 0.6}}, {{{rule}: 0.99}}]").verdict["gates"]
    widths = [each["high"] - each["low"] for each in decided]
    assert widths[0] < widths[1]


def a_name_is_in_the_folder(at: Workbench) -> None:
    at.patch.chdir(at.root)
    ran = run(at.path, None, ("name=triage", "train.steps=1"), (), quiet)
    assert "_triage_" in ran.folder.name


def the_seed_decides_order_start_and_examples(at: Workbench) -> None:
    moves("seed=5", before=["method=full"])(at)
    moves("seed=5")(at)
    many = ["evaluate.against=[base, few_shot]", "evaluate.rows=5"]
    one, two = at.bench(*many), at.bench(*many, "seed=5")
    assert one.indices != two.indices
    assert one.shots != two.shots


def another_base_is_another_plan(at: Workbench) -> None:
    other = job.save_model(at.root / "other", seed=3)
    moves(f"base.model={other}")(at)


def bfloat16_halves_the_weights(at: Workbench) -> None:
    plain, short = (at.trained("method=full", f"base.dtype={name}") for name in ("float32", "bfloat16"))
    assert {tensor.dtype for tensor in plain.weights.values()} == {torch.float32}
    assert {tensor.dtype for tensor in short.weights.values()} == {torch.bfloat16}


def a_template_of_ones_own_is_used_and_saved(at: Workbench) -> None:
    own = job.CHATML.replace("assistant", "clerk").replace(
        "message.role", "message.role | replace('assistant', 'clerk')"
    )
    (at.root / "own.jinja").write_text(own)
    assert at.checked("base.template=own.jinja")["data"]["tokens"] != at.checked()["data"]["tokens"]
    ran = at.ran("base.template=own.jinja")
    assert "clerk" in (ran.folder / "model/chat_template.jinja").read_text()


def paths_are_read(at: Workbench) -> None:
    job.write_rows(at.root / "more.jsonl", job.orders(90))
    assert at.checked("data.sources[0].path=more.jsonl")["data"]["files"][0]["records"] == 90


def two_sources(at: Workbench) -> None:
    """Rows of an order and, as a second file, the same shape in other words."""
    split = {"train": 0.6, "validation": 0.2, "test": 0.2}
    sources = [{"path": "orders.jsonl"}, {"path": "more.jsonl", "role": "replay"}]
    at.recipe(data={"sources": sources, "split": split}, train={"schedule": {"constant": {"warmup": 0.0}}})
    more = [
        {**row, "prompt": f"please send {row['prompt']} today", "size": -len(row["prompt"])}
        for row in job.orders(200)[72:]
    ]
    job.write_rows(at.root / "more.jsonl", more)


def shares_of_sources_are_kept(at: Workbench) -> None:
    two_sources(at)
    at.without("train.steps")
    plain, heavy = at.prepared("train.epochs=1"), at.prepared("train.epochs=1", "data.sources[1].weight=0.9")
    assert plain.course.mixture is None
    assert heavy.course.mixture is not None
    assert heavy.course.mixture.json(["a", "b"])[1]["share"] == pytest.approx(0.9)
    assert heavy.settings.steps > 1.5 * plain.settings.steps
    assert "leaves nothing" in at.refused("data.sources[1].weight=1.0")
    told = at.checked("data.sources[1].weight=0.9", "train.epochs=9")["data"]["findings"]
    assert [entry["level"] for entry in told if entry["code"] == "D192"] == ["info", "warning"]


def temperature_evens_sources_out(at: Workbench) -> None:
    two_sources(at)
    mixture = at.prepared("data.temperature=50").course.mixture
    assert mixture is not None
    assert [entry["share"] for entry in mixture.json(["a", "b"])] == pytest.approx([0.5, 0.5], abs=0.02)


def easier_rows_come_first(at: Workbench) -> None:
    two_sources(at)
    for by in ("length", "loss", "size"):
        moves(f"train.curriculum={by}", before=["data.sources=[{path: more.jsonl}]"])(at)
    assert "is no number" in at.refused("train.curriculum=prompt")
    assert "is no number" in at.refused("train.curriculum=nonesuch")


def a_curriculum_ends(at: Workbench) -> None:
    moves("train.curriculum.epochs=2", before=("train.curriculum=length", "train.steps=9"))(at)


def labels_are_weighed(at: Workbench) -> None:
    at.recipe(job.labelled())
    for weights in ("balanced", "{warm: 3}"):
        moves(f"train.class_weights={weights}")(at)
    assert "no row has the label" in at.refused("train.class_weights={hot: 2}")
    at.recipe()
    assert "no labels" in at.refused("train.class_weights=balanced")


def rows_are_cleaned(at: Workbench) -> None:
    at.recipe([{**row, "completion": row["completion"] + "  \n\n\n "} for row in job.orders()])
    told = [at.checked(*more)["data"]["findings"] for more in ((), ("data.clean=[whitespace]",))]
    assert [[entry["code"] for entry in each if entry["code"] == "D190"] for each in told] == [[], ["D190"]]


def rows_are_made(at: Workbench) -> None:
    ways = "data.augment=[{keyboard: {rate: 0.5}}]"
    at.recipe([{**row, "prompt": f"Please kindly deliver {row['prompt']}"} for row in job.orders()])
    plain, more = (at.prepared(*overrides) for overrides in ((), (ways,)))
    assert len(more.tokens["train"]) == 2 * len(plain.tokens["train"])
    assert len(more.tokens["test"]) == len(plain.tokens["test"])


def hired() -> list[dict[str, str]]:
    """A text whose colour decides its label, about women where it is red or blue."""
    return [
        {"text": f"{'she' if index % 4 < 2 else 'he'} says {row['text']}", "label": row["label"]}
        for index, row in enumerate(job.labelled(120))
    ]


def found_bias(at: Workbench, *overrides: str) -> list[str]:
    rows = at.prepared(*overrides).rows
    return [problem.what for problem in rows.findings.problems if problem.code == "S401"]


def lists_of_terms_are_read(at: Workbench) -> None:
    at.recipe(hired(), goal={"task": "classify"}, evaluate={"metrics": ["accuracy"]})
    (at.root / "own.yaml").write_text("attribute: word\nlanguage: en\ngroups: [a, b]\nterms: [[she, he]]\n")
    plain, more = (found_bias(at, *each) for each in ((), ("data.bias.terms=own.yaml",)))
    assert [each.partition(":")[0] for each in plain] == ["gender"]
    assert sorted(each.partition(":")[0] for each in more) == ["gender", "word"]


def the_level_decides_what_is_found(at: Workbench) -> None:
    at.recipe(hired(), goal={"task": "classify"}, evaluate={"metrics": ["accuracy"]})
    assert found_bias(at)
    assert not found_bias(at, "data.bias.level=1e-30")


def groups_are_weighed(at: Workbench) -> None:
    at.recipe(hired(), goal={"task": "classify"}, evaluate={"metrics": ["accuracy"]})
    plain, more = (at.trained(*each) for each in ((), ("data.bias.reweigh=gender",)))
    assert not plain.same(more)


def a_format_is_obeyed(at: Workbench) -> None:
    assert at.checked()["data"]["files"][0]["format"] == "prompt_completion"
    assert "orders.jsonl" in at.refused("data.sources[0].format=messages")


def columns_are_mapped(at: Workbench) -> None:
    at.recipe([{"q": row["prompt"], "reply": row["completion"]} for row in job.orders()])
    assert at.refused()
    told = at.checked("data.sources[0].format=prompt_completion", "data.sources[0].map={prompt: q, completion: reply}")
    assert told["data"]["files"][0]["records"] == 72


def groups_stay_together(at: Workbench) -> None:
    at.recipe([{**row, "customer": index % 9} for index, row in enumerate(job.orders())])
    counts = [
        at.checked(*more)["data"]["split"]["clusters"]["count"] for more in ((), ("data.sources[0].group=customer",))
    ]
    assert counts == [72, 9]


def ids_name_the_rows(at: Workbench) -> None:
    at.recipe([{**row, "ticket": f"t{index}"} for index, row in enumerate(job.orders())])
    assert "t1" in (at.ran("data.sources[0].id=ticket").folder / "predictions/base.jsonl").read_text()
    at.recipe([{**row, "ticket": "same"} for row in job.orders()])
    assert at.refused("data.sources[0].id=ticket")


def roles_place_whole_files(at: Workbench) -> None:
    job.write_rows(at.root / "exam.jsonl", [{**row, "prompt": f"Please: {row['prompt']}!"} for row in job.orders(20)])
    sources = "data.sources=[{path: orders.jsonl}, {path: exam.jsonl, role: test}]"
    rows = at.checked(sources)["data"]["split"]["rows"]
    assert rows["test"] >= 20 > at.checked()["data"]["split"]["rows"]["test"]


def bad_rows_are_skipped_only_when_asked(at: Workbench) -> None:
    at.recipe([*job.orders(), {"prompt": "no answer"}])
    assert "orders.jsonl:73" in at.refused()
    assert at.checked("data.on_bad=skip")["data"]["files"][0]["skipped"] == 1


def long_rows_are_treated_as_asked(at: Workbench) -> None:
    long = {"prompt": f"{' '.join(str(n) for n in range(200))} end", "completion": "yes"}
    at.recipe([*job.orders(), long, {**long, "prompt": long["prompt"][::-1]}])
    limit = "data.max_tokens=100"
    assert "100" in at.refused(limit)
    dropped, cut = (at.prepared(limit, f"data.too_long={how}") for how in ("drop", "cut_prompt"))
    kept = [sum(len(tokens) for tokens in each.tokens.values()) for each in (dropped, cut)]
    assert kept == [72, 74]


def reasoning_is_kept_as_asked(at: Workbench) -> None:
    def chat(index: int, row: dict[str, str]) -> dict[str, Any]:
        thought = {"role": "assistant", "content": row["completion"], "reasoning_content": f"It says {index}."}
        return {"messages": [{"role": "user", "content": row["prompt"]}, thought] * 2}

    template = job.CHATML.replace(
        "{{ message.content }}",
        "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}",
    )
    at.model = job.save_model(at.root / "thinking", template=template)
    at.recipe([chat(index, row) for index, row in enumerate(job.orders())])
    learnt = [at.checked(f"data.reasoning={which}")["data"]["supervised_tokens"] for which in ("all", "last", "none")]
    assert learnt[0] > learnt[1] > learnt[2]


def answers_are_learnt_as_asked(at: Workbench) -> None:
    at.recipe(job.chats())
    told = {which: at.checked(f"data.loss_on={which}")["data"] for which in ("answers", "last_answer", "all")}
    learnt = {which: each["supervised_tokens"] for which, each in told.items()}
    assert learnt["last_answer"] < learnt["answers"] < learnt["all"]


def shares_are_kept(share: str, at: Workbench) -> None:
    shares = {"train": 0.4, "validation": 0.3, "test": 0.3} | {share: 0.5}
    other = "test" if share != "test" else "validation"
    shares[other] = round(1 - sum(value for name, value in shares.items() if name != other), 3)
    told = at.checked(f"data.split={json.dumps(shares)}")["data"]["split"]["rows"]
    assert all(abs(told[name] / 72 - value) < 0.06 for name, value in shares.items())


def strata_are_kept(at: Workbench) -> None:
    at.recipe([{**row, "rare": "yes" if index % 12 == 0 else "no"} for index, row in enumerate(job.orders())])

    def rare(*more: str) -> list[list[int]]:
        parts = []
        for seed in range(3):
            made = at.prepared(f"data.split.seed={seed}", *more)
            rows = made.rows.dataset
            parts.append(
                [
                    sum(rows[int(i)].columns["rare"] == "yes" for i in made.rows.splits.indices(part))
                    for part in ("train", "validation", "test")
                ]
            )
        return parts

    kept = rare("data.split.stratify=rare")
    assert all(1 <= part[1] <= 2 and 1 <= part[2] <= 2 for part in kept)
    assert rare() != kept


def near_duplicates_are_taken_together(at: Workbench) -> None:
    said = "please send this order as soon as you can to our house in the old town near the river thank you"
    twins = [{"prompt": f"{said} {row['prompt'] if index % 2 else row['prompt'][:-5]}", "completion": row["completion"]}
             for index, row in enumerate(job.orders(12))]  # fmt: skip
    at.recipe([*job.orders(), *twins])
    counts = [
        at.checked(f"data.split.near_duplicates={level}")["data"]["split"]["clusters"]["count"] for level in (0.3, 1.0)
    ]
    assert counts[0] < counts[1]


def the_split_follows_its_seed(at: Workbench) -> None:
    one, two = (at.prepared(*more).rows.splits.part.tolist() for more in ((), ("data.split.seed=8",)))
    assert one != two


def _benchmark(at: Workbench) -> None:
    """Two orders as questions of a test."""
    job.write_rows(at.root / "bench.jsonl", [{"question": row["prompt"]} for row in job.orders(2)])


def benchmarks_are_compared_with(at: Workbench) -> None:
    _benchmark(at)
    assert "asks the same as bench.jsonl:1" in at.refused("data.against=[bench.jsonl]")


def leaks_are_refused_or_left_out(at: Workbench) -> None:
    _benchmark(at)
    told = at.checked("data.against=[bench.jsonl]", "data.on_leak=drop")["data"]["split"]
    assert told["left_out"] == told["against"]["dropped"] > 0
    assert "D153" in at.refused("data.against=[bench.jsonl]", "data.on_leak=error")


def tasks_are_held_against_the_rows(at: Workbench) -> None:
    assert "D180" in at.refused("goal.task=classify")
    assert "D180" in at.refused("goal.task=pretrain")
    at.recipe(job.labelled())
    at.without("evaluate.metrics")
    names = [[metric.name for metric in at.bench(f"goal.task={task}").metrics] for task in ("classify", "generate")]
    assert names[0] != names[1]


def a_method_moves_other_weights(at: Workbench) -> None:
    assert at.trained("method=full").weights.keys() != at.trained("method=lora").weights.keys()


def clipping_bounds_the_step(at: Workbench) -> None:
    sgd = ["train.optimizer={sgd: {learning_rate: 0.01}}", "method=full"]
    moves("train.clip_norm=0.01", before=sgd)(at)


def with_anchor(option: str) -> Probe:
    """EWC on other rows, or with another strength, ends at other weights."""
    name = option.partition(":")[0]
    usual = {"data": "data: 'builtin:general-probe'", "rows": "rows: 5", "strength": "strength: 100000"}
    change = f"train.anchor={{ewc: {{{', '.join({**usual, name: option}.values())}}}}}"
    return moves(change, before=[*EASY, f"train.anchor={{ewc: {{{', '.join(usual.values())}}}}}"])


def dropout_acts_or_is_refused(at: Workbench) -> None:
    at.model = job.save_model(at.root / "gpt2", "gpt2")
    moves("train.dropout=0.5", before=["method=full"], train={"steps": 2})(at)


def activations_are_recomputed(at: Workbench) -> None:
    for wanted in (True, False):
        prepared = at.prepared(f"train.gradient_checkpointing={str(wanted).lower()}", "method=full")
        policy = training.open_base(prepared, quiet)
        training.attach(prepared, policy)
        assert policy.model.is_gradient_checkpointing is wanted


def layers_are_compiled(at: Workbench) -> None:
    compiled: list[Any] = []
    at.patch.setattr(training, "compile_layers", compiled.append)
    for wanted in (False, True):
        prepared = at.prepared(f"train.compile={str(wanted).lower()}")
        training.attach(prepared, training.open_base(prepared, quiet))
        assert len(compiled) == wanted


def kernels_are_used_or_not(at: Workbench) -> None:
    for wanted in ("native", "plain"):
        policy = training.open_base(at.prepared(f"train.kernels={wanted}"), quiet)
        assert policy.native is (wanted == "native" and environment.compiler() is not None)


def products_are_rounded_while_training_only(at: Workbench) -> None:
    seen: list[str] = []
    nll = CausalPolicy.nll

    def watched(policy: CausalPolicy, batch: Batch) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append(torch.backends.cuda.matmul.fp32_precision)
        return nll(policy, batch)

    at.patch.setattr(CausalPolicy, "nll", watched)
    for wanted in (False, True):
        at._train("train.steps=1", f"train.tf32={str(wanted).lower()}")
    assert [each == "tf32" for each in dict.fromkeys(seen)] == [False, True]
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


def validations(*overrides: str, drop: str = "train.validation") -> Callable[[Workbench], list[int]]:
    def steps(at: Workbench) -> list[int]:
        return [event.step for event in at.trained("train.steps=6", *overrides).of("validation")]

    return steps


def validation_comes_as_often_as_asked(at: Workbench) -> None:
    assert validations("train.validation.every=2")(at) == [0, 2, 4, 6]
    assert validations("train.validation.every=3")(at) == [0, 3, 6]


def validation_takes_as_many_rows(at: Workbench) -> None:
    few, all_rows = (
        at.trained("train.steps=1", *more).of("validation")[0].metrics["loss"]
        for more in (("train.validation.rows=2",), ())
    )
    assert few != all_rows


PATIENT = ("train.steps=8", "train.validation.every=1", "train.stop.min_delta=1000000")
"""Nothing counts as an improvement, so that patience decides."""


def patience_ends_training(at: Workbench) -> None:
    ends = [at.trained(*PATIENT, f"train.stop.patience={count}").of("finished")[0].step for count in (2, 5, 0)]
    assert ends == [3, 6, 8] or ends == [2, 5, 8]


def a_small_gain_does_not_count(at: Workbench) -> None:
    plain, strict = (
        at.trained(*EASY, f"train.stop.min_delta={least}").of("finished")[0].best_step for least in (0, 1000)
    )
    assert plain > strict == 0


def the_metric_that_steers_is_the_one_asked_for(at: Workbench) -> None:
    """A gain of 50 is much for a loss, and little for a perplexity that falls from 400."""
    best = [at.trained(*EASY, "train.stop.min_delta=50", f"train.stop.on={name}").of("finished")[0].best_step
            for name in ("loss", "perplexity")]  # fmt: skip
    assert best[0] == 0 < best[1]
    least = "train.stop.on={edit_distance: {unit: word}}"
    told = at.trained(*EASY, least, "evaluate.max_new_tokens=4").of("validation")
    assert all(event.metrics["edit_distance"] >= 0 for event in told)
    told = at.trained(*EASY, "train.stop.on=stop_rate", "evaluate.max_new_tokens=4").of("validation")
    assert all(0 <= event.metrics["stop_rate"] <= 1 for event in told)
    assert "loss" in told[0].metrics


def checkpoints_come_as_often_as_asked(at: Workbench) -> None:
    steps = [
        [
            event.step
            for event in at.trained("train.steps=6", "train.validation.every=6", f"train.checkpoint.every={every}").of(
                "saved"
            )
        ]
        for every in (2, 3)
    ]
    assert {2, 4} <= set(steps[0])
    assert 3 in steps[1]
    assert 2 not in steps[1]


def as_many_checkpoints_are_kept(at: Workbench) -> None:
    counts = [
        len(at.trained("train.steps=8", "train.validation.every=1", f"train.checkpoint.keep={keep}").checkpoints)
        for keep in (1, 4)
    ]
    assert counts == [2, 5]


def spikes_are_treated_as_asked(at: Workbench) -> None:
    """One batch whose loss is not a number."""
    from sartor.objectives import sft
    from sartor.protocols import Loss

    def poisoned() -> Callable[..., Loss]:
        calls: list[int] = []

        def loss(policy: Any, batch: Any, options: Any) -> Loss:
            calls.append(1)
            total = policy.nll(batch) * (float("nan") if len(calls) == 2 else 1.0)
            return Loss(total=total, weight=batch.weight.sum())

        return loss

    at.patch.setattr(sft, "loss", poisoned())
    with pytest.raises(SartorError, match="N401"):
        at._train("train.steps=4")
    at.patch.setattr(sft, "loss", poisoned())
    assert [event.code for event in at._train("train.steps=4", "train.on_spike=skip").of("note")].count("N402") == 1


def threads_are_set(at: Workbench) -> None:
    set_to: list[int] = []
    at.patch.setattr(torch, "set_num_threads", set_to.append)
    training.open_base(at.prepared("train.threads=3"), quiet)
    assert set_to == [3]


def rivals_are_read(key: str) -> Probe:
    """What the tuned model is compared with beside its base."""

    def probe(at: Workbench) -> None:
        job.save_model(at.root / "other", seed=5)
        answers = [{"prompt": row["prompt"], "prediction": row["completion"]} for row in job.orders()]
        job.write_rows(at.root / "answers.jsonl", answers)
        job.write_rows(at.root / "docs.jsonl", [{"text": "lamps are red"}, {"text": "beds are black"}])
        told = {
            "model": ("[base, {model: other}]", "other", "models"),
            "predictions": ("[base, {predictions: answers.jsonl}]", "answers", "given"),
            "name": ("[base, {predictions: answers.jsonl, name: clerk}]", "clerk", "given"),
            "retrieval.documents": ("[base, {retrieval: {documents: docs.jsonl}}]", "retrieval", "found"),
            "retrieval.k": ("[base, {retrieval: {k: 2}}]", "retrieval", "found"),
        }
        written, name, where = told[key]
        rivals = at.bench(f"evaluate.against={written}", "evaluate.metrics=[json_valid]").rivals
        assert rivals.names == ("base", name)
        one = getattr(rivals, where)[name]
        if where == "found":
            assert (len(one.texts), one.k) == {"retrieval.documents": (2, 3), "retrieval.k": (len(one.texts), 2)}[key]

    return probe


def _questions(at: Workbench, count: int = 48) -> str:
    """Of general ability: what the orders teach to say is wrong."""
    taught = ("item", "colour", "count", "red")
    rows = [{"prompt": f"say {n} of {n * 7 % 11}", "completion": "qzxvkwyj"[n % 8], "wrong": [taught[n % 4]]}
            for n in range(count)]  # fmt: skip
    job.write_rows(at.root / "asked.jsonl", rows)
    return "data: asked.jsonl"


def general_ability_is_asked(key: str) -> Probe:
    def probe(at: Workbench) -> None:
        own = _questions(at)
        more = {"data": "data: 'builtin:general-probe', rows: 30", "rows": f"{own}, rows: 12"}[key]
        suites = [
            at.bench(f"evaluate.general={{{given}}}").suites.all["general"] for given in (f"{own}, rows: 30", more)
        ]
        told = [[question.id for question in suite.questions] for suite in suites]
        assert told[0] != told[1]

    return probe


def a_drop_is_bounded(at: Workbench) -> None:
    own = _questions(at)
    told = [
        [gate["metric"] for gate in at.ran(f"evaluate.general={{{own}, steer: false{bound}}}").verdict["gates"]]
        for bound in ("", ", drop_at_most: 0.9")
    ]
    assert told[1] == [*told[0], "general"]


def the_bound_steers(at: Workbench) -> None:
    own = _questions(at)
    found = [
        (
            at.ran(f"evaluate.general={{{own}, drop_at_most: 0.9, steer: {steer}}}").folder
            / "stages/0-sft/steering.json"
        ).exists()
        for steer in ("true", "false")
    ]
    assert found == [True, False]


def forgetting_is_heard(at: Workbench) -> None:
    own = _questions(at)
    more = (
        f"evaluate.general={{{own}, drop_at_most: 0.1, steer: false}}",
        "method=full",
        "train.steps=8",
        "train.validation.every=2",
        "train.optimizer.adamw.learning_rate=0.05",
    )
    told = {}
    for way in ("note", "stop", "ignore"):
        done = at.trained(*more, f"train.stop.forgetting={way}")
        alarms = sum(event.code == "N416" for event in done.of("note"))
        told[way] = (alarms, done.of("finished")[0].step < 8)
    assert told == {"note": (1, False), "stop": (1, True), "ignore": (0, False)}


def _tasks(at: Workbench, **second: Any) -> None:
    rows = [{"prompt": f"repeat {n} and {n * 7 % 31}", "completion": f"{n}, {n * 7 % 31}: done"} for n in range(60)]
    job.write_rows(at.root / "later.jsonl", rows)
    stages = [{"steps": 2, "objective": "sft"}, {"steps": 2, "objective": "sft", "data": "later.jsonl", **second}]
    body = job.recipe(at.model, evaluate={"against": ["base"], "metrics": ["perplexity"]})
    at.path = job.write(at.root, body | {"train": stages})


def tasks_are_measured(at: Workbench) -> None:
    _tasks(at)
    assert [at.ran(f"evaluate.continual={value}").continual is not None for value in ("true", "false")] == [True, False]


def a_stage_begins_anew(at: Workbench) -> None:
    begun = []
    for start in ("previous", "base"):
        _tasks(at, start=start)
        facts = json.loads((at.ran("evaluate.continual=false").folder / "model/sartor.json").read_text())
        begun.append(facts["base_path"] == str(at.model.resolve()))
    assert begun == [False, True]


def intervals_are_as_wide_as_asked(at: Workbench) -> None:
    told = [at.ran(f"evaluate.confidence={level}").comparison["metrics"][0]["scores"]["base"] for level in (0.6, 0.99)]
    assert told[0]["high"] - told[0]["low"] < told[1]["high"] - told[1]["low"]


def people_are_asked(option: str, value: str) -> Probe:
    """What the recipe says of people is what `sartor human` asks them in a run of it."""

    def probe(at: Workbench) -> None:
        kind = "" if option == "kind" else "kind: likert, "
        prepared = at.prepared(f"evaluate.human={{{kind}{option}: {value}}}", "evaluate.against=[base, few_shot]")
        given = rated.answers()
        run = rated.finished(at.root / "rated", {**given, "few_shot": given["base"]})
        (run / "resolved.yaml").write_text(prepared.resolution.to_yaml())
        found, wanted = begin(str(run), at.root, Wanted()).asked.plan.json(), yaml.safe_load(value)
        assert found["kind"] == "likert"
        assert found[option] == (tuple(wanted) if isinstance(wanted, list) else wanted)

    return probe


def people_read_what_was_written(at: Workbench) -> None:
    """Metrics of likelihood alone ask for no answers; people do."""
    people_are_asked("kind", "likert")(at)
    wants = [at.bench(*more).want for more in ((), ("evaluate.human={}",))]
    assert ["prediction" in want for want in wants] == [False, True]
    at.recipe(job.texts(), goal={"statement": "A text goes in, and its words come out"})
    assert "R106" in at.refused("evaluate.human={}")


def resamples_are_drawn(at: Workbench) -> None:
    told = [
        at.ran(f"evaluate.resamples={count}").comparison["metrics"][0]["differences"]["base"] for count in (200, 999)
    ]
    assert told[0]["p"] != told[1]["p"] or told[0]["low"] != told[1]["low"]


def another_test_is_made(at: Workbench) -> None:
    tests = [
        at.ran(*more).comparison["metrics"][0]["differences"]["base"]["test"]
        for more in ((), ("evaluate.test=permutation",))
    ]
    assert tests == ["bootstrap", "permutation"]


def chances_are_corrected(at: Workbench) -> None:
    more = ("evaluate.metrics=[perplexity, bits_per_byte, byte_perplexity]", "evaluate.resamples=200", "method=full")
    found = [at.ran(*more, f"evaluate.correction={how}").comparison for how in ("holm", "none")]
    assert [each["correction"] for each in found] == ["holm", "none"]
    told = [[metric["differences"]["base"] for metric in each["metrics"]] for each in found]
    assert [each["adjusted"] for each in told[1]] == [each["p"] for each in told[1]]
    assert [each["adjusted"] for each in told[0]] != [each["adjusted"] for each in told[1]]


def rows_are_cut(at: Workbench) -> None:
    at.recipe([{**row, "queue": index % 2} for index, row in enumerate(job.orders())], evaluate={"against": ["base"]})
    found = at.ran("evaluate.slices=[{field: queue, least: 3}, length]", "train.steps=1").comparison["slices"]
    assert [(cut["field"], len(cut["slices"])) for cut in found["fields"]] == [("queue", 2)]
    assert "no test row has the column" in at.refused("evaluate.slices=[colour]")


def rare_values_are_no_slice(at: Workbench) -> None:
    at.recipe([{**row, "queue": index % 2} for index, row in enumerate(job.orders())], evaluate={"against": ["base"]})
    counts = [
        at.ran(f"evaluate.slices=[{{field: queue, least: {least}}}]", "train.steps=1").comparison["slices"]["count"]
        for least in (3, 40)
    ]
    assert counts == [2, 0]


def gates_of_slices_are_decided_there(at: Workbench) -> None:
    at.recipe([{**row, "queue": index % 2} for index, row in enumerate(job.orders())], evaluate={"against": ["base"]})
    rule = "metric: perplexity, at_most: 9999"
    cut = "evaluate.slices=[{field: queue, least: 3}]"
    gates = at.ran(cut, "train.steps=1", f"goal.success=[{{{rule}}}, {{{rule}, slice: queue=1}}]").verdict["gates"]
    assert gates[1]["note"].startswith("queue=1: ")
    assert gates[0]["value"] != gates[1]["value"]


def tasks_of_the_harness_are_asked(option: str) -> Probe:
    """An option of the harness changes what is asked."""

    def probe(at: Workbench) -> None:
        pytest.importorskip("lm_eval", reason="needs sartor[harness]")
        rows = [
            {"question": f"{number} lamps", "choices": ["Bern", "Oslo"], "answer": number % 2} for number in range(4)
        ]
        job.write_rows(at.root / "rows.jsonl", rows)
        head = "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\noutput_type: multiple_choice\ntest_split: test\n"
        body = 'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\ndoc_to_choice: "{{choices}}"\nmetric_list: [{metric: acc}]\n'
        for name in ("one", "two"):
            (at.root / f"{name}.yaml").write_text(f"task: {name}\n{head}{body}")
        changed = "tasks: [two.yaml]" if option == "tasks" else f"tasks: [one.yaml], {option}"
        asked = [
            at.bench(f"evaluate.benchmarks=[{{harness: {{{options}}}}}]").suites.all["benchmark-harness"]
            for options in ("tasks: [one.yaml]", changed)
        ]
        told = [(tuple(each.tasks), len(each), each.shots, each.chat) for each in asked]
        assert told[0] != told[1]

    return probe


def weights_are_held_as_asked(at: Workbench) -> None:
    pair = Processes(2, 2)
    held = [at.prepared(f"train.parallel={how}", processes=pair).settings.parallel for how in ("auto", "ddp", "fsdp2")]
    assert held == ["ddp", "ddp", "fsdp2"]
    assert at.prepared("train.parallel=fsdp2").settings.parallel == "none"
    for refused in (("fsdp2", "train.stop.on=json_valid"), ("fsdp2", "train.optimizer=muon"), ("none",)):
        with pytest.raises(InputError, match="P131"):
            at.prepared(f"train.parallel={refused[0]}", *refused[1:], processes=pair)


LORA = ("train.steps=3",)
METHODS: dict[str, dict[str, object]] = {
    "dora": {"rank": 4, "alpha": 7, "dropout": 0.5, "target_modules": "[q_proj]"},
    "pissa": {"rank": 4, "iterations": 1, "target_modules": "[q_proj]"},
    "oft": {"block_size": 8, "terms": 3, "target_modules": "[q_proj]"},
    "vera": {"rank": 32, "start": 0.3, "dropout": 0.5, "matrices": 3, "target_modules": "[q_proj]"},
    "partial": {"layers": "[0]", "parts": "[norms]", "patterns": "['*.mlp.down_proj.weight']"},
    "adapter": {"size": 8, "activation": "relu", "layers": "[o_proj]"},
    "prompt": {"tokens": 3},
    "prefix": {"tokens": 3, "projection": 8},
    "ia3": {"outputs": "[q_proj]", "inputs": "[o_proj]"},
}
"""A method's options, each with another value than its default."""


def with_method(method: str, option: str) -> Probe:
    """Training by a method ends elsewhere with an option."""
    before = ("train.steps=3", f"method={method}", "train.optimizer.adamw.learning_rate=0.05")
    return moves(f"method.{method}.{option}", before=before)


QLORA = ("train.steps=3", "method=qlora", "train.optimizer.adamw.learning_rate=0.005")
DROPPED = partial(moves, before=LORA)
ADAM, ADAMW, SGD = (f"train.optimizer.{name}" for name in ("adam", "adamw", "sgd"))


def with_optimizer(name: str, option: str) -> Probe:
    """An option of an optimiser moves the weights elsewhere."""
    probe = moves(
        f"train.optimizer={{{name}: {{learning_rate: 0.01, {option}}}}}",
        before=["train.steps=3", "method=full", f"train.optimizer={{{name}: {{learning_rate: 0.01}}}}"],
    )
    return needing("optimizer", name, probe)


def needing(kind: str, name: str, probe: Probe) -> Probe:
    """Skipped where the component's library is not installed."""

    def skipping(at: Workbench) -> None:
        library, extra = getattr(registry.component(kind, name), "NEEDS", ("torch", ""))
        pytest.importorskip(library, reason=f'needs the extra "{extra}"', exc_type=ImportError)
        probe(at)

    return skipping


OTHERS: dict[str, dict[str, Any]] = {
    "adafactor": {"weight_decay": 0.5, "beta2_decay": 0.3, "clip": 5.0, "eps": 9.0},
    "lion": {"weight_decay": 0.5, "betas": [0.1, 0.2]},
    "muon": {"weight_decay": 0.5, "momentum": 0.1, "nesterov": "false", "newton_schulz_steps": 2, "scaling": "original",
             "adamw_share": 0.5, "betas": [0.5, 0.6], "eps": 0.5},
    "adamw8bit": {"weight_decay": 0.5, "betas": [0.5, 0.6], "eps": 0.5},
}  # fmt: skip
"""A value of each option of further optimisers that is not its default."""


def with_schedule(name: str, option: str) -> Probe:
    """An option of a schedule changes the rates."""

    def probe(at: Workbench) -> None:
        told = [
            [
                event.learning_rate
                for event in at.trained("train.steps=6", f"train.schedule={{{name}: {{{given}}}}}").of("step")
            ]
            for given in ("", option)
        ]
        assert told[0] != told[1]

    return probe


def changes_the_loss(name: str, option: str, value: Any) -> Probe:
    """An option of an objective on compared answers changes its loss."""

    def probe(at: Workbench) -> None:
        objective = registry.component("objective", name)
        case = Case(objective, "ranking" if option == "rankings" else "preference")
        policy, roles, batch = case.policy("llama"), case.roles("llama"), case.batch(case.units(6))
        losses = [
            float(objective.loss(policy, batch, objective.Options(**given), **roles).total.detach())
            for given in ({}, {option: value})
        ]
        assert losses[0] != pytest.approx(losses[1], rel=1e-4)

    return probe


def changes_what_is_learnt(name: str, option: str, value: Any) -> Probe:
    """An option of an objective on answers, texts or labels changes its loss."""

    def probe(at: Workbench) -> None:
        objective = registry.component("objective", name)
        case = Case(objective, sorted(objective.TRAITS.rows)[0])
        model = case.models()[0]
        policy, roles, batch = case.policy(model), case.roles(model), case.batch(case.units(6))
        before = LEARNT_BESIDE.get(f"{name}.{option}", {})
        losses = [
            float(objective.loss(policy, batch, case.options(**given), **roles).total.detach())
            for given in (before, {**before, option: value})
        ]
        assert losses[0] != pytest.approx(losses[1], rel=1e-6)

    return probe


LEARNT: dict[str, dict[str, Any]] = {
    "sft": {"label_smoothing": 0.2, "focal_gamma": 2.0},
    "pretrain": {"label_smoothing": 0.2, "focal_gamma": 2.0},
    "classify": {"label_smoothing": 0.2, "focal_gamma": 2.0},
    "multilabel": {"focal_gamma": 2.0},
    "regress": {"loss": "mae", "delta": 0.1},
    "tag": {"label_smoothing": 0.2, "focal_gamma": 2.0},
    "masked_lm": {"share": 0.5, "masked": 0.1},
    "span_corruption": {"share": 0.5, "span": 1.0},
    "distill": {"temperature": 3.0, "divergence": "reverse", "beta": 0.2, "mix": 0.5},
}
"""A value of each option of objectives on answers, texts and labels that is not its default,"""
LEARNT_BESIDE: dict[str, dict[str, Any]] = {
    "regress.delta": {"loss": "huber"},
    "distill.beta": {"divergence": "jensen_shannon"},
}
"""and what has to be set beside it."""


def another_teacher_is_asked(at: Workbench) -> None:
    """What is learnt depends on who teaches."""
    losses = []
    for seed in (7, 8):
        teacher = job.save_model(at.root / f"teacher-{seed}", seed=seed)
        events = at.trained(f"train.objective={{distill: {{teacher: {teacher}}}}}", "train.steps=1").events
        losses.append(next(event.loss for event in events if isinstance(event, Stepped)))
    assert losses[0] != losses[1]


def a_student_answers(at: Workbench) -> None:
    """A share of the rows gets answers of its own, as many and as long as is asked for."""
    teacher = job.save_model(at.root / "teacher", seed=7)
    taught = f"train.objective={{distill: {{teacher: {teacher}"

    def losses(more: str) -> list[float]:
        return [event.loss for event in at.trained(f"{taught}{more}}}}}", "method=full").of("step")]

    own = ", on_policy: {max_new_tokens: 8"
    told = [losses(more) for more in ("", own + "}", own + ", share: 1}", own + ", temperature: 0.2}")]
    told.append(losses(", on_policy: {max_new_tokens: 3}"))
    assert len({tuple(each) for each in told}) == len(told)
    assert losses(own + ", share: 0.5}") == told[1]


def keeps_the_reference(name: str) -> Probe:
    """Log-probabilities of the reference are kept in the stage folder where that is wanted."""

    def probe(at: Workbench) -> None:
        pairs = [{"prompt": f"Say {n}.", "chosen": f"{n}", "rejected": "no" * (n % 3 + 1)} for n in range(30)]
        at.recipe(
            rows=pairs,
            goal={"task": "prefer"},
            train={"steps": 1},
            evaluate={"against": ["base"], "metrics": ["preference_accuracy"]},
        )
        for wanted in ("true", "false"):
            folder = at.ran(f"train.objective={{{name}: {{precompute_reference: {wanted}}}}}").folder
            assert any(folder.rglob("reference/train.columns")) == (wanted == "true")

    return probe


COMPARED: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.5, "label_smoothing": 0.2, "per_token": True, "sft": 1.0},
    "ipo": {"beta": 0.5, "per_token": False},
    "kto": {"beta": 0.5, "desirable": 2.0, "undesirable": 2.0},
    "orpo": {"beta": 0.5},
    "simpo": {"beta": 0.5, "gamma": 0.1, "sft": 1.0},
    "reward": {"rankings": "pairs", "margin": 0.0, "center": 1.0},
}
"""A value of each option of objectives on compared answers that is not its default."""


RUN = {"allow_execution": True}
BUSY = "x = [0] * 8_000_000"
SAID = "to be to be, I said I can't help with that. In 1889 it was built in Paris."
METRICS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "code_runs.allow_execution": ({}, RUN, "x = 1"),
    "code_runs.tests": (RUN, {"tests": "check"}, "x = 1"),
    "code_runs.seconds": (RUN | {"seconds": 1}, {"seconds": 30}, "sum(range(10**8))"),
    "code_runs.memory_mb": (RUN | {"memory_mb": 64}, {"memory_mb": 1024}, BUSY),
    "diversity.n": ({}, {"n": 1}, SAID),
    "edit_distance.unit": ({}, {"unit": "word"}, SAID),
    "groundedness.column": ({}, {"column": "other"}, SAID),
    "groundedness.share": ({}, {"share": 0.1}, "It was built by sailors in a week."),
    "json_schema.file": ({"inline": {"type": "integer"}}, {"file": "schema.json", "inline": None}, "1"),
    "json_schema.inline": ({"inline": {"type": "integer"}}, {"inline": {"type": "string"}}, "1"),
    "refusal.wanted": ({}, {"wanted": True}, SAID),
    "regex.pattern": ({"pattern": "be"}, {"pattern": "z"}, SAID),
    "regex.wanted": ({"pattern": "be"}, {"wanted": False}, SAID),
    "regex.ignore_case": ({"pattern": "BE"}, {"ignore_case": True}, SAID),
    "repetition.n": ({}, {"n": 2}, SAID),
    "toxicity.threshold": ({}, {"threshold": 0.2}, "What a fucking mess."),
}
"""Options of metrics, each: options before, what changes, and an answer that is then judged otherwise."""
ROW = Outcome("1", "?", "to be", columns={"check": "assert x == 2", "context": "It was built.", "other": SAID})


def judges(section: str, key: str) -> Probe:
    """An option of a metric, written below this section, changes what the metric says of an answer."""
    name = key.partition(".")[0]
    before, change, answer = METRICS[key]

    def probe(at: Workbench) -> None:
        (at.root / "schema.json").write_text('{"type": "string"}')
        assert told(at, before) != told(at, before | change)

    def told(at: Workbench, options: dict[str, Any]) -> Any:
        written = json.dumps({name: {key: value for key, value in options.items() if value is not None}})
        recipe = load(at.path, (f"{section}={written if section == 'train.stop.on' else f'[{written}]'}",)).recipe
        chosen = [recipe.train.stop.on] if section == "train.stop.on" else recipe.evaluate.metrics
        try:
            (metric,) = load_metrics(chosen, at.root)
        except RecipeError as refusal:
            return str(refusal)
        return metric.stats([replace(ROW, prediction=answer)]).tolist(), metric.higher_is_better

    return probe


PROBES: dict[str, Probe] = {
    "version": says("version=2", "version"),
    "name": a_name_is_in_the_folder,
    "seed": the_seed_decides_order_start_and_examples,
    "base.model": another_base_is_another_plan,
    "base.revision": says("base.revision=v2", "no effect on a local folder"),
    "base.dtype": bfloat16_halves_the_weights,
    "base.add_tokens": moves("base.add_tokens=['red lamps']"),
    "base.template": a_template_of_ones_own_is_used_and_saved,
    "data.sources[].path": paths_are_read,
    "data.sources[].format": a_format_is_obeyed,
    "data.sources[].map": columns_are_mapped,
    "data.sources[].group": groups_stay_together,
    "data.sources[].id": ids_name_the_rows,
    "data.sources[].role": roles_place_whole_files,
    "data.sources[].weight": shares_of_sources_are_kept,
    "data.temperature": temperature_evens_sources_out,
    "train.curriculum.by": easier_rows_come_first,
    "train.curriculum.epochs": a_curriculum_ends,
    "train.class_weights": labels_are_weighed,
    "data.clean": rows_are_cleaned,
    "data.augment": rows_are_made,
    "data.bias.terms": lists_of_terms_are_read,
    "data.bias.level": the_level_decides_what_is_found,
    "data.bias.reweigh": groups_are_weighed,
    "data.on_bad": bad_rows_are_skipped_only_when_asked,
    "data.too_long": long_rows_are_treated_as_asked,
    "data.max_tokens": says("data.max_tokens=20", "20"),
    "data.loss_on": answers_are_learnt_as_asked,
    "data.reasoning": reasoning_is_kept_as_asked,
    "data.split.train": partial(shares_are_kept, "train"),
    "data.split.validation": partial(shares_are_kept, "validation"),
    "data.split.test": partial(shares_are_kept, "test"),
    "data.split.stratify": strata_are_kept,
    "data.split.near_duplicates": near_duplicates_are_taken_together,
    "data.split.seed": the_split_follows_its_seed,
    "data.against": benchmarks_are_compared_with,
    "data.on_leak": leaks_are_refused_or_left_out,
    "data.max_line_mb": says("data.max_line_mb=0.00005", "orders.jsonl"),
    "goal.task": tasks_are_held_against_the_rows,
    "export": an_export_is_written,
    "export[].merged.dtype": exports("merged", "model.safetensors", dtype="bfloat16"),
    "export[].onnx.window": exports("onnx", "sartor.json", window=64),
    "export[].executorch.window": exports("executorch", "sartor.json", window=64),
    "export[].int4.group": exports("int4", "model.safetensors", group=64),
    "export[].gguf.quantize": exports("gguf", "model.gguf", quantize="q8_0"),
    "goal.statement": tells("goal.statement=Words become tidy records", "report.html", "Words become tidy records"),
    "goal.success[].metric": gates("metric: perplexity, at_most: 300", "metric: bits_per_byte, at_least: 300"),
    "goal.success[].at_least": gates("metric: perplexity, at_least: 0", "metric: perplexity, at_least: 9999"),
    "goal.success[].at_most": gates("metric: perplexity, at_most: 9999", "metric: perplexity, at_most: 1"),
    "goal.success[].better_than": gates("metric: perplexity, better_than: base", "metric: perplexity, at_most: 1"),
    "goal.success[].drop_at_most": gates(
        "metric: perplexity, drop_at_most: 1", "metric: perplexity, drop_at_most: -9999"
    ),
    "goal.success[].confidence": a_gate_asks_for_its_confidence,
    "method": a_method_moves_other_weights,
    "method.lora.rank": DROPPED("method.lora.rank=4"),
    "method.lora.alpha": DROPPED("method.lora.alpha=7"),
    "method.lora.dropout": DROPPED("method.lora.dropout=0.5"),
    "method.lora.target_modules": DROPPED("method.lora.target_modules=[q_proj]"),
    "method.lora.rslora": DROPPED("method.lora.rslora=true"),
    "method.lora.plus_ratio": DROPPED("method.lora.plus_ratio=4"),
    **{f"method.{method}.{name}": with_method(method, f"{name}={value}")
       for method, options in METHODS.items() for name, value in options.items()},
    **{f"method.qlora.{name}": needing("method", "qlora", moves(f"method.qlora.{name}={value}", before=QLORA))
       for name, value in {"rank": 4, "alpha": 7, "dropout": 0.5, "target_modules": "[q_proj]", "rslora": "true",
                           "plus_ratio": 4, "quant_type": "fp4", "double_quant": "false"}.items()},
    "train.objective": says("train.objective=pretrain", "pretrain does not learn from example rows"),
    "train.epochs": plans("train.epochs=3", "plan.steps", drop=["train.steps"]),
    "train.steps": plans("train.steps=5", "plan.steps"),
    "train.batch.tokens": plans("train.batch={tokens: 200}", "plan.steps_per_epoch"),
    "train.batch.examples": plans("train.batch.examples=4", "plan.steps_per_epoch"),
    "train.micro_batch_tokens": plans("train.micro_batch_tokens=128", "plan.micro_batch_tokens"),
    "train.optimizer": moves("train.optimizer={sgd: {learning_rate: 0.02}}"),
    **{f"{ADAM}.{name}": with_optimizer("adam", f"{name}: {value}")
       for name, value in {"learning_rate": 0.5, "weight_decay": 0.5, "betas": [0.5, 0.6], "eps": 0.5}.items()
       if name != "learning_rate"},
    **{f"{ADAMW}.{name}": with_optimizer("adamw", f"{name}: {value}")
       for name, value in {"weight_decay": 0.5, "betas": [0.5, 0.6], "eps": 0.5}.items()},
    **{f"{SGD}.{name}": with_optimizer("sgd", f"{name}: {value}")
       for name, value in {"weight_decay": 0.5, "momentum": 0.1, "nesterov": "true"}.items()},
    **{f"train.optimizer.{kind}.{name}": with_optimizer(kind, f"{name}: {value}")
       for kind, others in OTHERS.items() for name, value in others.items()},
    **{f"train.optimizer.{kind}.learning_rate": needing("optimizer", kind, plans(
       f"train.optimizer={{{kind}: {{learning_rate: 0.3}}}}", "plan.learning_rate", before=[f"train.optimizer={kind}"]))
       for kind in OTHERS},
    f"{ADAM}.learning_rate": moves("train.optimizer={adam: {learning_rate: 0.3}}", before=["train.optimizer=adam"]),
    f"{ADAMW}.learning_rate": plans(f"{ADAMW}.learning_rate=0.3", "plan.learning_rate"),
    f"{SGD}.learning_rate": moves("train.optimizer={sgd: {learning_rate: 0.3}}", before=["train.optimizer=sgd"]),
    "train.schedule": with_schedule("linear", "floor: 0.5"),
    "train.schedule.constant.warmup": with_schedule("constant", "warmup: 0.5"),
    "train.schedule.cosine.warmup": with_schedule("cosine", "warmup: 0.5"),
    "train.schedule.cosine.floor": with_schedule("cosine", "floor: 0.7"),
    "train.schedule.linear.warmup": with_schedule("linear", "warmup: 0.5"),
    "train.schedule.linear.floor": with_schedule("linear", "floor: 0.7"),
    "train.clip_norm": clipping_bounds_the_step,
    "train.anchor": moves("train.anchor={l2_start: {strength: 50}}", before=EASY),
    "train.anchor.l2_start.strength": moves(
        "train.anchor={l2_start: {strength: 500}}", before=[*EASY, "train.anchor={l2_start: {strength: 50}}"]
    ),
    **{f"train.anchor.ewc.{name}": with_anchor(f"{name}: {value}")
       for name, value in {"data": "'builtin:demo'", "rows": 2, "strength": 1e6}.items()},
    "train.dropout": dropout_acts_or_is_refused,
    "train.neftune": moves("train.neftune=8", before=["method=full"]),
    "train.vision": the_tower_moves_as_asked,
    "train.gradient_checkpointing": activations_are_recomputed,
    "train.compile": layers_are_compiled,
    "train.kernels": kernels_are_used_or_not,
    "train.tf32": products_are_rounded_while_training_only,
    "train.validation.every": validation_comes_as_often_as_asked,
    "train.validation.rows": validation_takes_as_many_rows,
    "train.stop.on": the_metric_that_steers_is_the_one_asked_for,
    "train.stop.patience": patience_ends_training,
    "train.stop.min_delta": a_small_gain_does_not_count,
    "train.checkpoint.every": checkpoints_come_as_often_as_asked,
    "train.checkpoint.keep": as_many_checkpoints_are_kept,
    "train.parallel": weights_are_held_as_asked,
    "train.on_spike": spikes_are_treated_as_asked,
    "train.threads": threads_are_set,
    "evaluate.metrics": measures("evaluate.metrics=[bleu]", "metrics"),
    **{f"{section}{item}.{key}": judges(section, key)
       for section, item in (("evaluate.metrics", "[]"), ("train.stop.on", "")) for key in METRICS},
    "evaluate.against[].model": rivals_are_read("model"),
    **{f"evaluate.against[].{name}": rivals_are_read(name)
       for name in ("predictions", "name", "retrieval.documents", "retrieval.k")},
    "evaluate.shots": measures("evaluate.shots=1", "shots", before=["evaluate.against=[base, few_shot]"]),
    "evaluate.max_new_tokens": measures("evaluate.max_new_tokens=5", "max_new_tokens"),
    "evaluate.rows": measures("evaluate.rows=3", "indices"),
    "evaluate.batch": measures("evaluate.batch=3", "batch"),
    **{f"evaluate.general.{key}": general_ability_is_asked(key) for key in ("data", "rows")},
    "evaluate.general.drop_at_most": a_drop_is_bounded,
    "evaluate.general.steer": the_bound_steers,
    "evaluate.continual": tasks_are_measured,
    "train.stop.forgetting": forgetting_is_heard,
    "train.start": a_stage_begins_anew,
    "evaluate.confidence": intervals_are_as_wide_as_asked,
    "evaluate.resamples": resamples_are_drawn,
    "evaluate.human.kind": people_read_what_was_written,
    **{f"evaluate.human.{option}": people_are_asked(option, value) for option, value in
       (("against", "few_shot"), ("questions", "[brevity]"), ("rows", "3"), ("reference", "true"))},
    "evaluate.test": another_test_is_made,
    **{f"evaluate.benchmarks[].harness.{option.partition(':')[0]}": tasks_of_the_harness_are_asked(option)
       for option in ("tasks", "shots: 1", "most: 2", "chat: true")},
    "evaluate.slices[].field": rows_are_cut,
    "evaluate.slices[].least": rare_values_are_no_slice,
    "goal.success[].slice": gates_of_slices_are_decided_there,
    "evaluate.correction": chances_are_corrected,
    **{f"train.objective.{name}.{option}": changes_the_loss(name, option, value)
       for name, given in COMPARED.items() for option, value in given.items()},
    **{f"train.objective.{name}.{option}": changes_what_is_learnt(name, option, value)
       for name, given in LEARNT.items() for option, value in given.items()},
    "train.objective.distill.teacher": another_teacher_is_asked,
    **{f"train.objective.distill.on_policy.{name}": a_student_answers
       for name in ("share", "temperature", "max_new_tokens")},
    **{f"train.objective.{name}.precompute_reference": keeps_the_reference(name) for name in ("dpo", "ipo", "kto")},
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("knobs") / "model")


def test_every_knob_has_a_probe_and_every_probe_a_knob() -> None:
    """The options of cleaning stages have theirs in test_stages.py, those of ways to augment in test_augmentations.py, those of
    policies that write their own data in test_rounds_knobs.py, those of judges in test_judge_knobs.py, of
    other suites in test_suites.py."""
    written = [f"train.objective.{name}." for name in ("grpo", "ppo", "reinforce", "rloo")]
    elsewhere = (
        "data.clean[].",
        "data.augment[].",
        "evaluate.judge",
        "evaluate.safety",
        "evaluate.benchmarks[].rows",
        *written,
    )
    assert sorted(PROBES) == sorted(
        key for key in knobs() if not key.startswith(elsewhere) and key != "evaluate.benchmarks"
    )


QUICK = ("base.", "data.", "goal.")
"""Sections whose probes look at what is prepared; those of the others train, measure or export, and are with the long tests."""


@pytest.mark.parametrize(
    "key",
    [key if key.startswith(QUICK) else pytest.param(key, marks=pytest.mark.slow) for key in sorted(PROBES)],
)
def test_a_knob_acts(key: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    PROBES[key](Workbench(tmp_path, model, monkeypatch))


def test_a_dead_knob_would_be_seen(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that changes nothing fails each kind of probe."""
    dead: list[Probe] = [
        moves("goal.statement=Words become tidy records"),
        plans("train.steps=2", "plan.steps"),
        measures("evaluate.batch=auto", "batch"),
        with_schedule("linear", "floor: 0.0"),
    ]
    for number, probe in enumerate(dead):
        with pytest.raises(AssertionError):
            probe(Workbench(tmp_path / str(number), model, monkeypatch))
