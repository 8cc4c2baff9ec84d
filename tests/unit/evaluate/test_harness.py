"""Tasks of the lm-evaluation-harness: log-likelihoods against plain transformers, scores of documents, faults of task files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval", reason="needs sartor[harness]")

from sartor.errors import RecipeError
from sartor.evaluate.benchmarks.harness import Asking, Options, suite
from sartor.evaluate.compare import compare
from sartor.evaluate.suites import Ground, Subject
from sartor.flow.model import Model, load

ROWS = [
    {"question": f"{number} red lamps", "choices": ["Bern", "Oslo now", "Lima or Cairo"], "answer": number % 3}
    for number in range(8)
]
PETS = """\
task: places
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "Send {{question}} to:"
doc_to_target: "{{answer}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
PROSE = """\
task: prose
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""
SAY = """\
task: say
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "Send {{question}} to:"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["e"], max_gen_toks: 5}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    return load(job.save_model(tmp_path_factory.mktemp("harness") / "model"))


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, text in (("places", PETS), ("prose", PROSE), ("say", SAY)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def subject(model: Model) -> Subject:
    return Subject("base", model.policy, model.renderer, (), 4, lambda event: None)


def plain(model: Model, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Log-probability and greediness with the network alone, one row without padding."""
    ids = torch.tensor([[*context, *continuation]])
    with torch.no_grad():
        logits = model.policy.model(input_ids=ids).logits[0].float()
    logp = logits.log_softmax(-1)
    at = range(len(context) - 1, ids.shape[1] - 1)
    total = sum(float(logp[place, ids[0, place + 1]]) for place in at)
    return total, all(int(logits[place].argmax()) == int(ids[0, place + 1]) for place in at)


def test_log_likelihoods_are_those_of_plain_transformers(model: Model) -> None:
    vocabulary = model.renderer.vocabulary
    pairs = [("Send 3 red lamps to:", " Bern"), ("Send 3 red lamps to: ", "Oslo now"), ("", "Lima"), ("a b", " c d e")]
    found = Asking(subject(model), False, 0).continuations(pairs)
    for (context, continuation), (logp, greedy) in zip(pairs, found, strict=True):
        both = vocabulary.encode(context + continuation, special=True)
        before = vocabulary.encode(context.rstrip(), special=True) if context else [vocabulary.bos_id]
        after = both[len(before) :] if context else both
        wanted, best = plain(model, before, after)  # type: ignore[arg-type]
        assert logp == pytest.approx(wanted, abs=1e-4)
        assert greedy == best


def test_what_the_model_would_say_is_greedy(model: Model) -> None:
    vocabulary = model.renderer.vocabulary
    context = "Send 3 red lamps to:"
    ids = vocabulary.encode(context, special=True)
    with torch.no_grad():
        said = int(model.policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    rows = Asking(subject(model), False, 0)
    pair = rows._pair(context, vocabulary.decode([said]))
    if pair.ids.tolist() == [*ids, said]:
        assert rows.continuations([(context, vocabulary.decode([said]))])[0][1]


def test_texts_are_scored_from_their_first_token(model: Model) -> None:
    vocabulary = model.renderer.vocabulary
    long = " ".join(row["question"] for row in ROWS)
    for text, logp in zip(
        ("red lamps", long), Asking(subject(model), False, 0).texts(["red lamps", long]), strict=True
    ):
        wanted, _ = plain(model, [vocabulary.bos_id], vocabulary.encode(text, special=True))  # type: ignore[list-item]
        assert logp == pytest.approx(wanted, abs=1e-3)


def test_answers_end_before_a_stop_string(model: Model) -> None:
    asked = [("Send 3 red lamps to:", {"until": [], "max_gen_toks": 6})]
    (whole,) = Asking(subject(model), False, 0).answers(asked)
    assert whole
    (cut,) = Asking(subject(model), False, 0).answers([(asked[0][0], {"until": whole[1], "max_gen_toks": 6})])
    assert cut == whole[: whole.index(whole[1])]


def measured(model: Model, folder: Path, **options: Any) -> tuple[Any, list[Any]]:
    made = suite(Options(**{"tasks": (str(folder),), **options}), Ground(folder.parent))
    return made, list(made.measure(subject(model), range(len(made))))


def test_documents_are_scored_and_compared_by_us(model: Model, tasks: Path) -> None:
    made, outcomes = measured(model, tasks)
    names = [metric.name for metric in made.metrics]
    assert names == [
        "harness_places_acc", "harness_places_acc_norm", "harness_prose_word_perplexity",
        "harness_prose_bits_per_byte", "harness_say_exact_match",
    ]  # fmt: skip
    assert len(outcomes) == len(made) == 3 * len(ROWS)
    assert len({outcome.id for outcome in outcomes}) == len(outcomes)
    asking = Asking(subject(model), False, 0)
    right = []
    for row in ROWS:
        scores = asking.continuations([(f"Send {row['question']} to:", f" {choice}") for choice in row["choices"]])  # type: ignore[attr-defined]
        right.append(float(np.argmax([score for score, _ in scores]) == row["answer"]))
    by_us = [outcome.columns["scores"]["acc"] for outcome in outcomes if outcome.columns["task"] == "places"]
    assert by_us == right
    logp = asking.texts([str(row["question"]) for row in ROWS])
    words = sum(len(str(row["question"]).split()) for row in ROWS)
    found = compare({"base": outcomes, "tuned": outcomes}, made.metrics)
    perplexity = found.score("harness_prose_word_perplexity", "base")
    assert perplexity is not None
    assert perplexity.value == pytest.approx(np.exp(-sum(logp) / words), rel=1e-5)
    assert perplexity.low < perplexity.value < perplexity.high
    accuracy = found.score("harness_places_acc", "base")
    assert accuracy is not None
    assert accuracy.value == pytest.approx(np.mean(right))
    assert found.difference("harness_say_exact_match", "base").value == 0  # type: ignore[union-attr]


def test_a_part_of_the_documents_is_that_part(model: Model, tasks: Path) -> None:
    made, outcomes = measured(model, tasks)
    again = list(made.measure(subject(model), range(5, 11)))
    assert [outcome.id for outcome in again] == [outcome.id for outcome in outcomes[5:11]]
    assert [outcome.columns for outcome in again] == [outcome.columns for outcome in outcomes[5:11]]


def test_options_act(model: Model, tasks: Path) -> None:
    one = str(tasks / "places.yaml")
    plain_, _ = measured(model, tasks, tasks=(one,))
    few, outcomes = measured(model, tasks, tasks=(one,), most=3)
    assert (len(plain_), len(few)) == (8, 3)
    _, shown = measured(model, tasks, tasks=(one,), most=3, shots=1)
    assert shown[0].prompt.count("Send ") == 2
    assert outcomes[0].prompt.count("Send ") == 1
    pair = ("Send 3 red lamps to:", " Bern")
    by_template = Asking(subject(model), True, 0)._pair(*pair)
    text = model.renderer.vocabulary.decode(by_template.ids.tolist())
    assert text == "<|im_start|>user\nSend 3 red lamps to:<|im_end|>\n<|im_start|>assistant\n Bern"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (PETS.replace("metric_list: [{metric: acc}, {metric: acc_norm}]", "metric_list: [{metric: mcc}]"), "gives no score for each"),
        (PETS.replace("rows.jsonl", "nowhere.jsonl"), "cannot read this task"),
        (PETS.replace("dataset_path: json", "dataset_path: somebody/set"), "cannot read this task"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_told(tasks: Path, text: str, wanted: str) -> None:
    (tasks / "places.yaml").write_text(text)
    with pytest.raises(RecipeError, match=wanted):
        suite(Options(tasks=("places.yaml",)), Ground(tasks))
    with pytest.raises(RecipeError, match="there is no task here"):
        suite(Options(tasks=("absent.yaml",)), Ground(tasks))
