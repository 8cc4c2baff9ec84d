"""Objectives on heads equal transformers' own losses; hidden words and left-out spans are what the papers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import headed
import numpy as np
import pytest
import tiny
import torch

from sartor.models.heads import HeadSpec
from sartor.objectives import classify, masked_lm, multilabel, regress, sft, span_corruption, tag
from sartor.tokens.batch import Batch, Rendered, collate
from sartor.tokens.pack import pack
from sartor.tokens.symbols import Symbols
from sartor.tokens.vocabulary import Vocabulary

SYMBOLS = Symbols(
    mask=4, sentinels=tuple(range(280, 292)), end=1, controls=frozenset({0, 1, 2, 4, *range(280, 292)}), size=300
)
MODELS = ["llama", "gpt2", "bert", "distilbert", "roberta", "bart"]


def rows(kind: str, count: int = 6) -> list[Rendered]:
    """Rows as `tokens.inputs` makes them, each with a weight of its own."""
    draw = np.random.default_rng(1)
    made = []
    for index in range(count):
        ids = np.array([0, *draw.integers(5, 280, int(draw.integers(3, 20))), 1], np.int32)
        weight = np.zeros(len(ids), np.float32)
        weight[-1] = 1 if index % 3 else 0.5
        tags = np.where(draw.random(len(ids)) < 0.5, draw.integers(0, 3, len(ids)), np.nan).astype(np.float32)
        tags[[0, -1]] = np.nan
        tags[1] = 2
        labels = {
            "classes": np.array([index % 3], np.float32),
            "labels": (draw.random(3) > 0.5).astype(np.float32),
            "number": draw.standard_normal(1).astype(np.float32),
            "tags": tags,
        }[kind]
        made.append(Rendered(ids, weight, index, labels))
    return made


HEADS = {
    "classes": HeadSpec("classes", ("a", "b", "c")),
    "labels": HeadSpec("labels", ("a", "b", "c")),
    "number": HeadSpec("number"),
    "tags": HeadSpec("tags", ("a", "b", "c")),
}
OBJECTIVES: dict[str, Any] = {"classes": classify, "labels": multilabel, "number": regress, "tags": tag}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", HEADS)
def test_the_loss_of_one_row_is_transformers_own(name: str, kind: str) -> None:
    """Its forward pass with `labels`, row by row; the sum over a packed batch is weighted by row."""
    if kind == "tags" and name == "bart":
        pytest.skip("transformers has no encoder-decoder with a head for tokens of its own")
    policy, given = tiny.headed(name, HEADS[kind]), rows(kind)
    policy.eval()
    total, weight = 0.0, 0.0
    with torch.no_grad():
        for row in given:
            labels = torch.from_numpy(row.labels)[None]
            if kind == "classes":
                labels = labels[0].long()
            elif kind == "tags":
                labels = torch.where(labels.isnan(), -100, labels).long()
            counts = float((labels != -100).sum()) if kind == "tags" else 1.0
            inputs = {"input_ids": torch.from_numpy(row.ids.astype(np.int64))[None]}
            scale = float(row.weight.max()) * counts
            total += scale * float(policy.model(**inputs, labels=labels).loss)
            weight += scale
        found = OBJECTIVES[kind].loss(policy, collate(given), OBJECTIVES[kind].Options())
    assert float(found.total) == pytest.approx(total, rel=2e-4)
    assert float(found.weight) == pytest.approx(weight)


@pytest.mark.parametrize("kind", HEADS)
def test_options_change_the_loss(kind: str) -> None:
    policy, batch, module = tiny.headed("bert", HEADS[kind]), collate(rows(kind)), OBJECTIVES[kind]
    options: dict[str, dict[str, Any]] = {
        "classes": {"label_smoothing": 0.2, "focal_gamma": 2.0},
        "labels": {"focal_gamma": 2.0},
        "number": {"loss": "mae"},
        "tags": {"label_smoothing": 0.2, "focal_gamma": 2.0},
    }
    plain = float(module.loss(policy, batch, module.Options()).total.detach())
    for key, value in options[kind].items():
        changed = float(module.loss(policy, batch, module.Options(**{key: value})).total.detach())
        assert changed != pytest.approx(plain, rel=1e-6), key
    if kind == "number":
        hubers = [
            float(module.loss(policy, batch, module.Options(loss="huber", delta=d)).total.detach()) for d in (0.1, 1)
        ]
        assert hubers[0] < hubers[1]


def test_smoothing_and_focal_loss_over_tokens() -> None:
    """Against the formula on all logits."""
    policy = tiny.policy("llama")
    batch = collate(tiny.rows(5))
    logits = policy.logits(batch).detach()
    logp = logits.log_softmax(dim=1)
    own = logp.gather(1, batch.target[:, None])[:, 0]
    smoothed = -(0.9 * own + 0.1 * logp.mean(dim=1))
    expected = {
        (0.0, 0.0): -own,
        (0.1, 0.0): smoothed,
        (0.0, 2.0): -((1 - own.exp()) ** 2) * own,
        (0.1, 2.0): (1 - own.exp()) ** 2 * smoothed,
    }
    for (smoothing, gamma), each in expected.items():
        loss = sft.loss(policy, batch, sft.Options(label_smoothing=smoothing, focal_gamma=gamma))
        assert float(loss.total.detach()) == pytest.approx(float((batch.weight * each).sum()), rel=1e-5)
        assert float(loss.weight) == float(batch.weight.sum())


def documents(count: int = 8) -> list[Rendered]:
    made = [row.ids for row in rows("number", count)]
    return [Rendered(ids, np.ones(len(ids), np.float32), index) for index, ids in enumerate(made)]


def hidden(batch: Batch, **options: Any) -> Batch:
    return masked_lm.hide(batch, masked_lm.Options(**options), SYMBOLS)


def test_fifteen_percent_are_hidden_and_no_control_token_is() -> None:
    draw = np.random.default_rng(0)
    rows = [
        Rendered(np.array([0, *draw.integers(5, 280, 200), 1], np.int32), np.ones(202, np.float32), i)
        for i in range(50)
    ]
    batch = collate(rows)
    masked = hidden(batch)
    assert len(masked.at) == 50 * 30
    before, after = batch.ids[0][masked.at], masked.ids[0][masked.at]
    assert torch.equal(masked.target, before)
    assert not SYMBOLS.control(masked.target.numpy()).any()
    shares = [float((after == 4).float().mean()), float((after == before).float().mean())]
    assert shares == pytest.approx([0.8, 0.1], abs=0.03)
    others = after[(after != 4) & (after != before)]
    assert not SYMBOLS.control(others.numpy()).any()
    rest = torch.ones(batch.tokens, dtype=torch.bool)
    rest[masked.at] = False
    assert torch.equal(batch.ids[0][rest], masked.ids[0][rest])
    assert set(hidden(batch, masked=1.0).ids[0][hidden(batch, masked=1.0).at].tolist()) == {4}
    assert len(hidden(batch, share=0.5).at) == 50 * 100


def test_what_is_hidden_depends_on_row_and_epoch_alone() -> None:
    from dataclasses import replace

    rows = documents()
    whole = hidden(collate(rows))
    one_by_one = [hidden(collate([row])) for row in reversed(rows)]
    assert sorted(whole.target.tolist()) == sorted(token for part in one_by_one for token in part.target.tolist())
    assert torch.cat([part.ids[0] for part in reversed(one_by_one)]).equal(whole.ids[0])
    assert not hidden(replace(collate(rows), draw=5)).ids.equal(whole.ids)
    windows = [Rendered(row.ids, row.weight, 7) for row in rows]
    places = [tuple(hidden(collate([row])).at.tolist()) for row in windows]
    assert len(set(places)) > 1, "windows of one document have choices of their own"


def test_masked_loss_is_transformers_own_and_does_not_depend_on_packing() -> None:
    policy = tiny.policy("bert")
    policy.eval()
    rows = documents()
    masked = hidden(collate(rows))
    labels = torch.full((masked.tokens,), -100)
    labels[masked.at] = masked.target
    total = start = 0
    with torch.no_grad():
        for length in masked.lengths:
            span = slice(start, start + length)
            out = policy.model(input_ids=masked.ids[:, span], labels=labels[span][None])
            total += float(out.loss) * int((labels[span] != -100).sum())
            start += length
        found = masked_lm.loss(policy, collate(rows), masked_lm.Options(), symbols=SYMBOLS)
        parts = [
            masked_lm.loss(policy, collate([rows[i] for i in each]), masked_lm.Options(), symbols=SYMBOLS)
            for each in pack([len(row) for row in rows], 30)
        ]
    assert float(found.total) == pytest.approx(total, rel=1e-4)
    assert float(found.total) == pytest.approx(sum(float(part.total) for part in parts), rel=1e-4)
    assert float(found.weight) == sum(float(part.weight) for part in parts) == len(masked.at)


def told(ids: np.ndarray, **options: Any) -> tuple[list[int], list[int]]:
    draw = np.random.default_rng(3)
    asked, answer = span_corruption.parts(ids, span_corruption.Options(**options), SYMBOLS, draw)
    return asked.tolist(), answer.tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 10, 57, 200])
def test_input_and_answer_make_the_text_again(length: int) -> None:
    text = np.arange(5, 5 + length)
    asked, answer = told(text)
    assert asked[-1] == answer[-1] == SYMBOLS.end
    used = [token for token in asked if token in SYMBOLS.sentinels]
    assert used == list(SYMBOLS.sentinels[: len(used)])
    assert answer[0] == used[0]
    assert answer[-2] == SYMBOLS.sentinels[len(used)], "one more sentinel ends the answer"
    pieces: dict[int, list[int]] = {}
    for token in answer[:-2]:
        if token in SYMBOLS.sentinels:
            current = pieces.setdefault(token, [])
        else:
            current.append(token)
    again = [word for token in asked[:-1] for word in pieces.get(token, [token])]
    assert again == text.tolist()
    gone = sum(map(len, pieces.values()))
    assert gone == (1 if length < 10 else round(0.15 * length))
    assert len(pieces) == max(1, min(round(gone / 3), 11))


def test_left_out_spans_can_begin_and_end_a_text() -> None:
    begins = ends = 0
    for seed in range(200):
        lengths, gaps = span_corruption.spans(20, span_corruption.Options(share=0.3), 11, np.random.default_rng(seed))
        assert sum(lengths) == 6
        assert min(lengths) >= 1
        assert min([*gaps[1:], 1]) >= 1
        begins, ends = begins + (gaps[0] == 0), ends + (sum(gaps) + sum(lengths) == 20)
    assert 0 < begins < 200
    assert 0 < ends < 200


def test_span_corruption_is_transformers_own_loss() -> None:
    policy = tiny.policy("t5")
    policy.eval()
    rows, options = documents(), span_corruption.Options()
    batch = span_corruption.corrupt(collate(rows), options, SYMBOLS)
    total, start = 0.0, 0
    with torch.no_grad():
        for number, length in enumerate(batch.lengths):
            ids = batch.ids[0, start : start + length]
            first = int(batch.at[batch.row == number].min()) + 1 - start
            start += length
            out = policy.model(input_ids=ids[None, :first], labels=ids[None, first:])
            total += float(out.loss) * (length - first)
        found = span_corruption.loss(policy, collate(rows), options, symbols=SYMBOLS)
        parts = [span_corruption.loss(policy, collate([row]), options, symbols=SYMBOLS) for row in rows]
    assert float(found.total) == pytest.approx(total, rel=1e-4)
    assert float(found.total) == pytest.approx(sum(float(part.total) for part in parts), rel=1e-4)


def test_symbols_of_a_vocabulary(tmp_path: Path) -> None:
    for name in ("bert", "t5"):
        headed.TOKENIZERS[name](tmp_path / name, headed.corpus())
    bert, t5 = (Symbols.of(Vocabulary.load(tmp_path / name)) for name in ("bert", "t5"))
    assert bert.missing(("mask",)) is None
    assert bert.missing(("sentinels", "end")) == "sentinels (<extra_id_0>, <extra_id_1> ...)"
    assert t5.missing(("sentinels", "end")) is None
    assert t5.missing(("mask",)) == "a mask token"
    assert t5.sentinels == tuple(range(3, 15))
    assert not set(bert.words) & bert.controls
