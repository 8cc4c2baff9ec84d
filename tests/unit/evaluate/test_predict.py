"""Likelihoods against transformers' own logits, labels against labels one by one, few-shot prompts, windows, resuming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Message, Origin, Row, Text
from sartor.errors import TokenError
from sartor.evaluate import labels as labels_module
from sartor.evaluate import likelihood as likelihood_module
from sartor.evaluate.labels import LabelScorer, Tree
from sartor.evaluate.likelihood import likelihood, windows
from sartor.evaluate.outcomes import collect, from_line, read_outcomes, to_line
from sartor.evaluate.predict import predict
from sartor.evaluate.shots import choose_shots, fit_shots, with_shots
from sartor.events import Event, Noted, Progressed
from sartor.models.attention import NAME
from sartor.models.base import Exactness
from sartor.models.hf import random_causal
from sartor.models.policy import CausalPolicy
from sartor.models.probe import probe
from sartor.protocols import Outcome
from sartor.tokens.batch import Rendered
from sartor.tokens.render import Renderer
from sartor.tokens.template import ChatTemplate
from sartor.tokens.vocabulary import Vocabulary

CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
WORDS = [
    "the",
    "parcel",
    "with",
    "my",
    "lamp",
    "is",
    "late",
    "broken",
    "please",
    "send",
    "money",
    "back",
    "card",
    "account",
    "user",
    "assistant",
    "system",
]
LABELS = ("card lost", "card late", "card", "money back", "parcel")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<|pad|>", "<|im_start|>", "<|im_end|>")])
    return Vocabulary(
        tokenizer.to_str(), {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"}, templates={"default": CHATML}
    )


@pytest.fixture(scope="module")
def renderer(vocabulary: Vocabulary) -> Renderer:
    return Renderer(vocabulary, ChatTemplate(CHATML, vocabulary.named))


def make(vocabulary: Vocabulary, **changes) -> CausalPolicy:
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary.size,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model = random_causal(config | changes, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
    model.eval()
    model.set_attn_implementation(NAME)
    policy = CausalPolicy(model, device=torch.device("cpu"), exact=Exactness())
    policy.exact = probe(policy)
    return policy


@pytest.fixture(scope="module")
def policy(vocabulary: Vocabulary) -> CausalPolicy:
    return make(vocabulary)


def example(number: int, answer: str | None = None, system: str | None = None, words: int | None = None) -> Example:
    draw = np.random.default_rng(number)
    question = " ".join(draw.choice(WORDS, words or draw.integers(3, 12)))
    answer = answer or " ".join(draw.choice(WORDS, draw.integers(1, 5)))
    turns = [Message("system", system)] if system else []
    turns += [Message("user", question), Message("assistant", answer)]
    return Example(
        origin=Origin("rows.jsonl", number + 1), id=f"r{number}", messages=tuple(turns), columns={"channel": "web"}
    )


def run(policy: CausalPolicy, renderer: Renderer, rows: Sequence[Row], **options) -> tuple[list[Outcome], list[Event]]:
    events: list[Event] = []
    defaults = {"task": "base", "max_new_tokens": 6, "batch": 4, "want": frozenset({"nll"}), "emit": events.append}
    return list(predict(policy, renderer, rows, range(len(rows)), **(defaults | options))), events


def slow_nll(policy: CausalPolicy, prompt: Sequence[int], answer: Sequence[int]) -> float:
    with policy.generating() as model:
        logp = model(torch.tensor([[*prompt, *answer]])).logits[0].float().log_softmax(dim=1)
    at = len(prompt)
    return -sum(float(logp[at + place - 1, token]) for place, token in enumerate(answer))


def test_nll_is_that_of_the_answer_with_its_end_of_turn(policy: CausalPolicy, renderer: Renderer) -> None:
    rows = [example(number) for number in range(7)]
    outcomes, events = run(policy, renderer, rows)
    for row, outcome in zip(rows, outcomes, strict=True):
        answer = renderer.completion(row.answer_text())
        assert outcome.tokens == len(answer)
        assert outcome.nll == pytest.approx(slow_nll(policy, renderer.prompt(row.prompt()).tolist(), answer), rel=1e-4)
        assert (outcome.id, outcome.prompt, outcome.reference) == (row.id, row.prompt_text(), row.answer_text())
        assert outcome.bytes == len(row.answer_text().encode())
        assert outcome.columns == {"channel": "web"}
        assert outcome.prediction is None
    assert events == [Progressed("base", 7, 7)]


def test_outcomes_keep_their_order_over_blocks(policy: CausalPolicy, renderer: Renderer) -> None:
    rows = [example(number, words=3) for number in range(70)]
    outcomes, events = run(policy, renderer, rows, batch=1, want=frozenset({"prediction"}), max_new_tokens=2)
    assert [outcome.id for outcome in outcomes] == [row.id for row in rows]
    assert [event.done for event in events] == [64, 70]
    alone, _ = run(policy, renderer, rows[66:67], want=frozenset({"prediction"}), max_new_tokens=2)
    assert alone[0] == outcomes[66]
    assert outcomes[66].prediction is not None


def test_rows_of_raw_text_score_every_token_once(policy: CausalPolicy, renderer: Renderer) -> None:
    texts = [" ".join(WORDS * times) for times in (1, 40)]
    rows = [Text(origin=Origin("t.txt", number), text=text) for number, text in enumerate(texts)]
    outcomes, _ = run(policy, renderer, rows, want=frozenset({"nll", "prediction"}))
    for row, outcome in zip(rows, outcomes, strict=True):
        (rendered,) = renderer.render(row, 0)
        assert outcome.tokens == len(rendered) - 1
        assert outcome.reference == row.text
        assert outcome.prediction is None
    ids = renderer.render(rows[0], 0)[0].ids.tolist()
    assert outcomes[0].nll == pytest.approx(slow_nll(policy, ids[:1], ids[1:]), rel=1e-4)
    assert len(renderer.render(rows[1], 0)[0]) > policy.window


@given(length=st.integers(2, 90), first=st.integers(1, 89), behind=st.integers(2, 90), window=st.integers(2, 40))
@settings(max_examples=120, deadline=None)
def test_windows_score_each_token_once_with_context(length: int, first: int, behind: int, window: int) -> None:
    first, behind = min(first, length - 1), min(max(behind, first + 1), length)
    weight = np.zeros(length, dtype=np.float32)
    weight[first:behind] = 1
    pieces = windows(Rendered(np.arange(length, dtype=np.int32), weight, 4), window)
    scored = [int(token) for piece in pieces for token in piece.ids[1:][piece.weight[1:] > 0]]
    assert scored == list(range(first, max(first, behind)))
    assert all(len(piece) <= max(window, 2) or length <= window for piece in pieces)


def test_likelihood_does_not_depend_on_packing(policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rows = [Rendered(draw.integers(3, 200, n).astype(np.int32), np.ones(n, np.float32), n) for n in (5, 30, 2, 1, 17)]
    together, tokens = likelihood(policy, rows)
    monkeypatch.setattr(likelihood_module, "PACKED_TOKENS", {"cpu": 1})
    alone, _ = likelihood(policy, rows)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert tokens.tolist() == [4, 29, 1, 0, 16]
    assert together[3] == 0


# labels


def test_labels_are_scored_as_each_by_itself(policy: CausalPolicy, renderer: Renderer) -> None:
    rows = [example(number, LABELS[number % 5]) for number in range(9)]
    outcomes, _ = run(policy, renderer, rows, labels=LABELS, want=frozenset({"label", "prediction"}))
    for row, outcome in zip(rows, outcomes, strict=True):
        prompt = renderer.prompt(row.prompt()).tolist()
        wanted = {label: -slow_nll(policy, prompt, renderer.completion(label)) for label in LABELS}
        assert dict(outcome.label_scores) == pytest.approx(wanted, rel=1e-4)
        assert outcome.label == max(wanted, key=wanted.__getitem__)
    assert len({outcome.label_scores["parcel"] for outcome in outcomes}) == 9


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
        {"model_type": "gemma2", "head_dim": 8, "sliding_window": 64},
        {"model_type": "mistral", "sliding_window": 16},
    ],
    ids=["llama", "gpt2", "gemma2", "mistral"],
)
def test_labels_share_one_pass_wherever_that_is_exact(
    vocabulary: Vocabulary, renderer: Renderer, changes: dict
) -> None:
    policy = make(vocabulary, **changes)
    scorer = LabelScorer(policy, [renderer.completion(label) for label in LABELS], 0)
    prompts = [renderer.prompt(example(number).prompt()).tolist() for number in range(4)]
    assert scorer.shared
    np.testing.assert_allclose(scorer.score(prompts), scorer._apart(prompts), rtol=2e-4)


def test_a_model_that_ignores_the_mask_is_found_out(
    policy: CausalPolicy, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endings = [renderer.completion(label) for label in LABELS]
    wanted = LabelScorer(policy, endings, 0).score([[5, 6, 7]])
    monkeypatch.setattr(Tree, "sees", lambda tree: torch.ones(len(tree), len(tree), dtype=torch.bool).tril())
    scorer = LabelScorer(policy, endings, 0)
    assert not scorer.shared
    np.testing.assert_allclose(scorer.score([[5, 6, 7]]), wanted, rtol=1e-4)


def test_labels_are_divided_where_the_vocabulary_is_large(
    policy: CausalPolicy, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endings = [renderer.completion(label) for label in LABELS]
    wanted = LabelScorer(policy, endings, 0).score([[5, 6, 7]])
    monkeypatch.setattr(labels_module, "LOGITS", policy.vocabulary * 8)
    scorer = LabelScorer(policy, endings, 0)
    assert len(scorer.trees) > 1
    np.testing.assert_allclose(scorer.score([[5, 6, 7]]), wanted, rtol=1e-4)


def test_prompts_that_begin_alike_are_computed_once_where_that_is_less(
    policy: CausalPolicy, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = LabelScorer(policy, [renderer.completion(label) for label in LABELS], 0)
    draw = np.random.default_rng(0)
    shots = draw.integers(3, 200, 120).tolist()
    prompts = [shots + draw.integers(3, 200, length).tolist() for length in (20, 25, 18, 30)]
    assert scorer._prompts_share_more(prompts)
    assert not scorer._prompts_share_more([prompt[112:] for prompt in prompts])
    expected = scorer._together(prompts)
    tokens: list[int] = []
    hidden = CausalPolicy.hidden
    monkeypatch.setattr(CausalPolicy, "hidden", lambda self, batch: tokens.append(batch.tokens) or hidden(self, batch))
    np.testing.assert_allclose(scorer.score(prompts), expected, rtol=1e-4)
    assert sum(tokens) == 120 + 20 + 25 + 18 + 30 + 4 * sum(map(len, scorer.labels))


def test_rows_of_one_few_shot_prompt_share_it(
    policy: CausalPolicy, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, shots = [example(number) for number in range(9)], [example(number) for number in range(20, 24)]
    tokens: list[int] = []
    hidden = CausalPolicy.hidden
    monkeypatch.setattr(CausalPolicy, "hidden", lambda self, batch: tokens.append(batch.tokens) or hidden(self, batch))
    shared, _ = run(policy, renderer, rows, shots=shots)
    computed = sum(tokens)
    monkeypatch.setattr(policy, "exact", replace(policy.exact, shares=False))
    whole, _ = run(policy, renderer, rows, shots=shots)
    assert [outcome.nll for outcome in shared] == pytest.approx([outcome.nll for outcome in whole], rel=1e-5)
    assert [outcome.tokens for outcome in shared] == [outcome.tokens for outcome in whole]
    assert computed < 0.5 * (sum(tokens) - computed)


def test_tree_shares_beginnings() -> None:
    tree = Tree()
    tree.add(0, [1, 2, 3])
    tree.add(1, [1, 2, 4])
    assert tree.token == [1, 2, 3, 4]
    assert tree.parent == [-1, 0, 1, 1]
    assert tree.depth == [0, 1, 2, 2]
    assert tree.sees()[3].tolist() == [True, True, False, True]


# few-shot


def test_shots_are_earlier_turns(policy: CausalPolicy, renderer: Renderer) -> None:
    row, shots = example(0, system="be brief"), [example(1), example(2, system="be long")]
    turns = with_shots(row, shots)
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[0].content == "be brief"
    assert turns[2].content == shots[0].answer_text()
    assert turns[-1] == row.prompt()[-1]
    assert with_shots(row, []) == row.prompt()
    (outcome,), _ = run(policy, renderer, [row], shots=shots)
    answer = renderer.completion(row.answer_text())
    assert outcome.nll == pytest.approx(slow_nll(policy, renderer.prompt(turns).tolist(), answer), rel=1e-4)


def test_shots_bring_their_system_message_once(renderer: Renderer) -> None:
    turns = with_shots(example(0), [example(1, system="be brief"), example(2, system="be brief")])
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]


def test_shots_are_of_many_kinds_and_independent_of_order(tmp_path) -> None:
    rows = [example(number, "card" if number % 6 else LABELS[number // 6 % 5]) for number in range(60)]
    forwards, backwards = (Dataset.write(rows[::step], tmp_path / str(step)) for step in (1, -1))
    chosen = choose_shots(forwards, range(60), count=5)
    assert {shot.answer_text() for shot in chosen} == set(LABELS)
    assert chosen[0].answer_text() == "card"
    assert [shot.id for shot in choose_shots(backwards, range(60), count=5)] == [shot.id for shot in chosen]
    assert choose_shots(forwards, range(60), count=5, seed=1) != chosen
    assert {shot.id for shot in choose_shots(forwards, range(3), count=5)} == {"r0", "r1", "r2"}
    assert choose_shots(forwards, [], count=5) == []


def test_shots_fit_the_window(policy: CausalPolicy, renderer: Renderer) -> None:
    shots = [example(number, words=20) for number in range(5)]
    rows = [example(number) for number in range(10, 15)]
    kept = fit_shots(shots, rows, renderer, window=policy.window, room=10)
    assert 0 < len(kept) < 5
    longest = max(len(renderer.prompt(with_shots(row, kept))) for row in rows)
    assert longest + 10 <= policy.window
    assert fit_shots(shots, rows, renderer, window=None, room=10) == shots


def test_rows_that_do_not_fit_are_cut_and_counted(policy: CausalPolicy, renderer: Renderer) -> None:
    shots = [example(1, words=60)]
    rows = [example(0, words=3), example(2, words=120), example(3, words=200)]
    outcomes, events = run(policy, renderer, rows, shots=shots, want=frozenset({"nll", "prediction"}))
    assert all(outcome.prediction is not None and math.isfinite(outcome.nll) for outcome in outcomes)
    notes = {event.code: event.message for event in events if isinstance(event, Noted)}
    assert notes["E111"].startswith("2 rows")
    assert notes["E112"].startswith("2 rows")


def test_rows_that_the_template_refuses_are_named(policy: CausalPolicy, vocabulary: Vocabulary) -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHATML
    renderer = Renderer(vocabulary, ChatTemplate(strict, vocabulary.named))
    with pytest.raises(TokenError, match="T217"):
        run(policy, renderer, [example(0), example(1, system="be brief")])


# keeping


def outcome(number: int) -> Outcome:
    return Outcome(
        id=f"r{number}", prompt="a\nb", reference="ü", prediction="" if number % 2 else None, nll=0.1 * number, tokens=3,
        label="x", label_scores={"x": -1.5}, stopped=False, columns={"n": [1, None]},
    )  # fmt: skip


def test_an_outcome_survives_its_line() -> None:
    for number in range(3):
        assert from_line(to_line(outcome(number))) == outcome(number)
        assert "\n" not in to_line(outcome(number))


def test_a_finished_file_is_not_measured_again(tmp_path) -> None:
    asked: list[list[int]] = []

    def measure(indices: Sequence[int]):
        asked.append(list(indices))
        return map(outcome, indices)

    path = tmp_path / "predictions/base.jsonl"
    first = collect(path, [4, 2, 9], measure)
    assert [found.id for found in first] == ["r4", "r2", "r9"]
    assert collect(path, [4, 2, 9], measure) == first == read_outcomes(path)
    assert asked == [[4, 2, 9]]
    assert [file.name for file in path.parent.iterdir()] == ["base.jsonl"]


def test_an_unfinished_file_is_continued_after_its_last_whole_line(tmp_path) -> None:
    path = tmp_path / "base.jsonl"

    def killed(indices: Sequence[int]):
        yield outcome(indices[0])
        yield outcome(indices[1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(path, range(5), killed)
    assert not path.exists()
    with (tmp_path / "base.jsonl.part").open("a") as part:
        part.write('{"id": "torn')
    asked: list[int] = []

    def rest(indices: Sequence[int]):
        asked.extend(indices)
        return map(outcome, indices)

    assert [found.id for found in collect(path, range(5), rest)] == [f"r{n}" for n in range(5)]
    assert asked == [2, 3, 4]
