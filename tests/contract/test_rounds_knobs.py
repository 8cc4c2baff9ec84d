"""No dead knobs among the options of objectives whose data the policy writes; each option of each of them has a probe here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import job
import numpy as np
import pytest
import tiny
import torch
import yaml
from contract.test_knobs import Workbench

from sartor import registry
from sartor.data.rows import Message
from sartor.errors import RecipeError
from sartor.flow.handover import settings_from_json, settings_json
from sartor.flow.rollouts import reward_of
from sartor.flow.stages import with_judges
from sartor.models.heads import HeadSpec
from sartor.models.save import save_model
from sartor.recipe.load import load
from sartor.recipe.shape import knobs
from sartor.rollouts.prompts import Answer, Asked

NAMES = [name for name in registry.names("objective") if registry.component("objective", name).TRAITS.reads == "prompt"]
PREFIX = "train.objective."
FUNCTION = """\
def score(answers, rows):
    return [answer.count('e') - 0.1 * len(answer) for answer in answers]

def other(answers, rows):
    return [len(answer) for answer in answers]
"""
USUAL: dict[str, Any] = {
    "rewards": [{"function": "reward.py:score"}],
    "prompts": 3,
    "samples": 2,
    "passes": 2,
    "max_new_tokens": 6,
}
CHANGED: dict[str, Any] = {
    "unfinished": 3.0,
    "prompts": 2,
    "samples": 3,
    "passes": 1,
    "temperature": 0.3,
    "max_new_tokens": 3,
    "kl_stop": 1e-12,
    "kl_bound": 1e-9,
    "clip": 0.0001,
    "kl": 5.0,
    "kl_target": 1.0,
    "value": 5.0,
    "value_clip": 1e-6,
    "entropy": 1.0,
    "discount": 0.5,
    "trace": 0.0,
    "whiten": None,
    "ptx": 1.0,
    "divide": False,
    "mean": "token",
}
"""Another value of each; None: the opposite of the default."""
JUDGE = {"endpoint": "", "model": "a"}
OF_JUDGES = ("endpoint", "model", "key", "instruction", "scale")
REWARDS = ("metric", "function", "model", "stage", "weight", *(f"judge.{name}" for name in OF_JUDGES))


def keys() -> list[str]:
    mine = tuple(f"{PREFIX}{name}." for name in NAMES)
    return sorted(key for key in knobs() if key.startswith(mine))


def test_every_option_has_a_probe() -> None:
    """Those of metrics have theirs in test_knobs.py; that a reward takes them is tested below."""
    probed = {f"rewards[].{name}" for name in REWARDS} | set(CHANGED)
    assert {key.split(".", 3)[3] for key in keys() if ".metric." not in key} == probed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("rounds") / "model")


@pytest.fixture
def at(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    torch.set_num_threads(1)
    return Workbench(tmp_path, model, monkeypatch)


def usual(at: Workbench, name: str, *, steps: int = 5, **options: Any) -> None:
    """A recipe of 5 steps, of which 4 are a round: 2 passes of 2 steps."""
    (at.root / "reward.py").write_text(FUNCTION)
    train = {
        "objective": {name: USUAL | options},
        "steps": steps,
        "batch": {"examples": 3},
        "optimizer": {"adamw": {"learning_rate": 0.01}},
        "validation": {"rows": 2},
        "stop": {"patience": 0},
        "schedule": {"constant": {"warmup": 0.0}},
    }
    at.recipe(train=train, method="full", evaluate={"against": ["base"], "metrics": ["perplexity"]})


def told(at: Workbench) -> list[Any]:
    """What training tells, without times."""
    told: list[Any] = []
    for event in at.trained().events:
        body = json.loads(json.dumps(event.json()))
        for name in ("seconds", "memory_bytes", "peak_memory_bytes", "path"):
            body.pop(name, None)
        told.append(body)
    return told


@pytest.mark.parametrize("key", [key for key in keys() if "rewards" not in key and key.rpartition(".")[2] in CHANGED])
def test_an_option_of_rounds_acts(key: str, at: Workbench) -> None:
    name, option = key.removeprefix(PREFIX).split(".")
    value = CHANGED[option]
    if value is None:
        value = not getattr(registry.component("objective", name).Options(), option)
    steps = 13 if option == "kl_bound" else 5
    usual(at, name, steps=steps)
    before = told(at)
    usual(at, name, steps=steps, **{option: value})
    assert told(at) != before


def scores(at: Workbench, name: str, *rewards: dict[str, Any]) -> list[float]:
    """What the rewards of a recipe give for three answers."""
    usual(at, name, rewards=list(rewards))
    prepared = at.prepared()
    asked = Asked(0, np.array([5], np.int32), (Message("user", "Say e."),), "Say e.", "eee", {})
    answers = [Answer(asked, np.array([7], np.int32), text, stopped=True) for text in ("eee", "abcde", "x")]
    settings = prepared.settings
    reward = reward_of(settings.objective.options.rewards, at.root, settings, 1)  # type: ignore[attr-defined]
    found: list[float] = reward.score(answers).tolist()
    return found


@pytest.fixture(scope="module")
def judge() -> Iterator[Callable[[], list[tuple[str | None, dict[str, Any]]]]]:
    """The address of a judge that gives 4 to everything, and what it was asked."""
    asked: list[tuple[str | None, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            asked.append((self.headers.get("authorization"), json.loads(self.rfile.read(length))))
            body = json.dumps({"choices": [{"message": {"content": '{"score": 4}'}}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    JUDGE["endpoint"] = f"http://127.0.0.1:{server.server_port}/v1"
    yield lambda: asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", NAMES)
def test_rewards_act(name: str, at: Workbench, judge: Any) -> None:
    plain = scores(at, name, {"function": "reward.py:score"})
    assert plain == pytest.approx([2.7, 0.5, -0.1])
    assert scores(at, name, {"function": "reward.py:other"}) == [3, 5, 1]
    assert scores(at, name, {"metric": "exact_match"}) == [1, 0, 0]
    assert scores(at, name, {"metric": "exact_match"}, {"function": "reward.py:other", "weight": 0.5}) == [
        2.5,
        2.5,
        0.5,
    ]
    assert scores(at, name, {"judge": JUDGE}) == pytest.approx([0.4] * 3)
    assert scores(at, name, {"judge": JUDGE | {"scale": 5}}) == pytest.approx([0.8] * 3)
    at.patch.setenv("JUDGE_KEY", "secret")
    scores(at, name, {"judge": JUDGE | {"key": "JUDGE_KEY", "model": "b", "instruction": "Be strict."}})
    (none, first), (bearer, last) = judge()[0], judge()[-1]
    assert (none, bearer) == (None, "Bearer secret")
    assert (first["model"], last["model"]) == ("a", "b")
    assert last["messages"][0]["content"].startswith("Be strict.")
    assert not first["messages"][0]["content"].startswith("Be strict.")
    assert at.root / "rm" != reward_model(at)
    by_model = scores(at, name, {"model": str(at.root / "rewarding")})
    assert len(set(by_model)) == 3


def test_a_metric_takes_its_options(at: Workbench) -> None:
    """As in evaluate.metrics, also after the settings went through JSON."""
    found = [scores(at, "grpo", {"metric": {"regex": {"pattern": pattern}}}) for pattern in ("^e+$", "abc")]
    assert found == [[1, 0, 0], [0, 1, 0]]
    settings = at.prepared().settings
    again = settings_from_json(json.loads(json.dumps(settings_json(settings))))
    assert again.objective == settings.objective
    assert again.objective.options.rewards[0].metric.options.pattern == "abc"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_before_judges(name: str, at: Workbench) -> None:
    usual(at, name, rewards=[{"stage": "reward"}])
    with pytest.raises(RecipeError, match=r"no stage reward before this one"):
        with_judges(load(at.path))
    body = yaml.safe_load(at.path.read_text())
    body["train"] = [{"objective": "reward", "data": "pairs.jsonl"}, body["train"]]
    at.path.write_text(yaml.safe_dump(body, sort_keys=False))
    objective = with_judges(load(at.path)).stages[1].recipe.train.objective
    assert [each.stage for each in objective.options.rewards] == ["reward"]  # type: ignore[union-attr, attr-defined]


def reward_model(at: Workbench) -> Path:
    """A saved reward model with the tokenizer of the workbench's model."""
    policy = tiny.headed("llama", HeadSpec("reward"), vocab_size=job.VOCABULARY)
    files = [at.model / "tokenizer.json", at.model / "tokenizer_config.json"]
    facts = {"base": "x", "base_path": "x", "head": HeadSpec("reward").json()}
    save_model(policy, at.root / "rewarding", base=at.model, files=files, template=job.CHATML, facts=facts)
    return at.root / "rewarding"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rewards": []}, "R106.*nothing says what a good answer is"),
        ({"rewards": [{"model": "nowhere"}]}, "R106.*no reward model at nowhere"),
        ({"rewards": [{"metric": "perplexity"}]}, "N420.*judges probabilities"),
        ({"rewards": [{"metric": "exact_mach"}]}, 'R105: unknown metric "exact_mach"; did you mean "exact_match"'),
        ({"rewards": [{"metric": {"regex": {"patern": "x"}}}]}, 'R102.*patern.*did you mean "pattern"'),
        ({"rewards": [{"metric": "bleu", "model": "x"}]}, "exactly one"),
    ],
)
def test_rewards_that_cannot_be_are_refused(change: dict[str, Any], said: str, at: Workbench) -> None:
    usual(at, "grpo", **change)
    with pytest.raises(Exception, match=r"(?s)" + said):
        at.trained()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.curriculum=length", "train.curriculum"),
        ("train.class_weights=balanced", "no effect|no labels"),
        ("train.stop.on=exact_match", "steered by the reward"),
        ("data.sources[0].weight=0.5", "no effect"),
    ],
)
def test_settings_without_effect_are_refused(override: str, said: str, at: Workbench) -> None:
    import re

    usual(at, "grpo")
    assert re.search(said, at.refused(override))


def test_shards_are_refused_and_copies_are_not(at: Workbench) -> None:
    from sartor.advise.parallel import Processes
    from sartor.errors import RunError

    usual(at, "grpo")
    assert at.prepared(processes=Processes(2, 2)).settings.parallel == "ddp"
    with pytest.raises(RunError, match="P133"):
        at.prepared("train.parallel=fsdp2", processes=Processes(2, 2))


def test_prompts_without_answers_need_an_objective_that_writes_them(at: Workbench) -> None:
    rows = [{"prompt": row["prompt"]} for row in job.orders()]
    usual(at, "grpo")
    body = yaml.safe_load(at.path.read_text())
    job.write(at.root, body, rows)
    assert at.checked()["plan"]["steps"] == 5
    del body["train"]["objective"]
    job.write(at.root, body, rows)
    assert "grpo or ppo or reinforce or rloo" in at.refused()
