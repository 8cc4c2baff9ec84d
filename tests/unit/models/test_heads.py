"""Heads on all kinds of models: equal to transformers' own, saved with what they mean, beside adapters too."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from sartor import registry
from sartor.errors import ModelError
from sartor.models.base import ModelPolicy
from sartor.models.catalog import resolve
from sartor.models.heads import HeadSpec
from sartor.models.load import load
from sartor.models.save import save_model
from sartor.protocols import Loss
from sartor.tokens.batch import Batch, Rendered, collate

CLASSES = HeadSpec("classes", ("bad", "good", "so so"))
TAGS = HeadSpec("tags", ("O", "B-PER", "I-PER"))
NAMES = ("llama", "gpt2", "gemma3", "bert", "roberta", "distilbert", "modernbert", "deberta", "t5", "bart")
AUTO = {"sequence": AutoModelForSequenceClassification, "tokens": AutoModelForTokenClassification}
ALL = [*((name, CLASSES) for name in NAMES), *((name, TAGS) for name in NAMES if name not in ("bart", "gemma3"))]
BOTH = pytest.mark.parametrize(("name", "head"), ALL, ids=[f"{name}-{head.kind}" for name, head in ALL])


def rows(count: int = 7, seed: int = 2) -> list[Rendered]:
    """Rows as heads read them: an end-of-text token at the end, weight on it alone, a class as the label."""
    draw, made = np.random.default_rng(seed), []
    for index in range(count):
        ids = np.append(draw.integers(3, tiny.VOCABULARY, draw.integers(3, 30)), 1).astype(np.int32)
        weight = np.zeros(len(ids), np.float32)
        weight[-1] = 1
        made.append(Rendered(ids, weight, index, np.array([index % 3], np.float32)))
    return made


ROWS = rows()


def side_by_side(some: list[Rendered]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, some))
    ids, mask = torch.full((len(some), longest), 2), torch.zeros(len(some), longest, dtype=torch.int64)
    for line, row in enumerate(some):
        ids[line, : len(row)] = torch.from_numpy(row.ids.astype(np.int64))
        mask[line, : len(row)] = 1
    return ids, mask


def theirs(model: torch.nn.Module, head: HeadSpec, some: list[Rendered]) -> torch.Tensor:
    """What transformers' own forward gives for a padded batch."""
    ids, mask = side_by_side(some)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits[mask.bool()] if head.place == "tokens" else logits


def loss(policy: ModelPolicy, batch: Batch) -> Loss:
    """Cross entropy of the class, of every token for tags."""
    score = policy.score(batch)
    target = batch.labels[:, 0].long()
    if len(score) != len(target):
        target = torch.repeat_interleave(target, torch.tensor(batch.lengths))
    each = torch.nn.functional.cross_entropy(score, target, reduction="sum")
    return Loss(each, torch.tensor(float(len(score))))


def train(policy: ModelPolicy, steps: int = 4, rate: float = 5e-2) -> None:
    policy.train()
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=rate)
    for _ in range(steps):
        found = loss(policy, collate(ROWS))
        optimizer.zero_grad()
        (found.total / found.weight).backward()
        optimizer.step()
    policy.eval()


def score(policy: ModelPolicy) -> torch.Tensor:
    with torch.no_grad():
        return policy.score(collate(ROWS))


@BOTH
def test_the_score_is_that_of_transformers_for_a_padded_batch(name: str, head: HeadSpec) -> None:
    policy = tiny.headed(name, head)
    plain = policy.model
    if policy.kind == "causal":
        plain.set_attn_implementation("eager")
    wanted = theirs(plain, head, ROWS)
    if policy.kind == "causal":
        plain.set_attn_implementation("sartor_rows")
    found = score(policy)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-5)
    assert policy.exact.packs
    assert policy.exact.last == (policy.kind == "causal")


@BOTH
def test_micro_batches_change_no_gradient(name: str, head: HeadSpec) -> None:
    policy = tiny.headed(name, head)
    policy.model.requires_grad_(True)

    def gradient(cuts: list[list[Rendered]]) -> tuple[float, dict[str, torch.Tensor]]:
        policy.model.zero_grad()
        totals = [loss(policy, collate(cut)).total for cut in cuts]
        for total in totals:
            total.backward()
        found = {key: p.grad.clone() for key, p in policy.model.named_parameters() if p.grad is not None}
        return sum(float(total.detach()) for total in totals), found

    whole, expected = gradient([ROWS])
    for cut in ([[row] for row in ROWS], [ROWS[::-1]], [ROWS[:3], ROWS[3:]]):
        total, found = gradient(cut)
        assert total == pytest.approx(whole, rel=1e-5)
        tiny.assert_close(found, expected)


@BOTH
def test_loss_and_gradient_are_those_of_transformers(name: str, head: HeadSpec) -> None:
    policy = tiny.headed(name, head)
    policy.model.requires_grad_(True)
    found = loss(policy, collate(ROWS))
    (found.total / found.weight).backward()
    ours = {key: p.grad.clone() for key, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    if policy.kind == "causal":
        policy.model.set_attn_implementation("eager")
    ids, mask = side_by_side(ROWS)
    labels = torch.tensor([int(row.labels[0]) for row in ROWS])
    if head.place == "tokens":
        labels = labels[:, None].expand_as(ids).masked_fill(mask == 0, -100)
    out = policy.model(input_ids=ids, attention_mask=mask, labels=labels)
    out.loss.backward()
    assert float(found.total.detach() / found.weight) == pytest.approx(float(out.loss.detach()), rel=1e-5)
    tiny.assert_close(ours, {key: p.grad for key, p in policy.model.named_parameters() if p.grad is not None})


@BOTH
def test_a_fresh_head_on_a_base_is_trained_saved_and_loaded_there_and_here(
    name: str, head: HeadSpec, tmp_path: Path
) -> None:
    base = resolve(str(tiny.save_folder(tmp_path / "base", name)), tmp_path)
    policy = load(base, head=head, seed=1)
    assert torch.equal(score(policy), score(load(base, head=head, seed=1)))
    assert not torch.equal(score(policy), score(load(base, head=head, seed=2)))
    before = score(policy)
    registry.component("method", "full").attach(policy, None, seed=0)
    train(policy)
    assert not torch.allclose(score(policy), before, atol=1e-3)
    save_model(policy, tmp_path / "out", base=base.path, files=[], template="x", facts={})
    again = load(resolve(str(tmp_path / "out"), tmp_path))
    assert again.head == head
    assert torch.equal(score(again), score(policy))
    plain = AUTO[head.place].from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    assert torch.allclose(theirs(plain, head, ROWS), score(policy), atol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {str(index): label for index, label in enumerate(head.names)}
    assert config.get("problem_type") == (None if head.kind == "tags" else "single_label_classification")


@BOTH
def test_beside_an_adapter_the_head_is_trained_and_loads_in_plain_peft(
    name: str, head: HeadSpec, tmp_path: Path
) -> None:
    base = resolve(str(tiny.save_folder(tmp_path / "base", name)), tmp_path)
    policy = load(base, head=head, seed=1)
    lora: ModuleType = registry.component("method", "lora")
    lora.attach(policy, lora.Options(rank=4), seed=3)
    start = score(load(base, head=head, seed=1))
    assert torch.equal(score(policy), start)
    moving = policy.trainable()
    assert all(any(part in key for key in moving) for part in policy.head_modules())
    assert any("lora_A" in key for key in moving)
    still = {key: p.detach().clone() for key, p in policy.model.named_parameters() if not p.requires_grad}
    train(policy, rate=0.5)
    assert all(torch.equal(p, still[key]) for key, p in policy.model.named_parameters() if key in still)
    tuned = score(policy)
    assert not torch.allclose(tuned, start, atol=1e-3)
    with policy.reference():
        assert torch.equal(score(policy), start)
    out = tmp_path / "out"
    save_model(policy, out, base=base.path, files=[], template="x", facts={"base": str(base.path)})
    again = load(resolve(str(out), tmp_path), seed=9)
    assert again.head == head
    assert torch.equal(score(again), tuned)
    plain = AUTO[head.place].from_pretrained(base.path, num_labels=head.outputs, attn_implementation="eager")
    peft = PeftModel.from_pretrained(plain, str(out)).eval()
    assert torch.allclose(theirs(peft, head, ROWS), tuned, atol=1e-5)


def test_heads_of_one_number() -> None:
    for head in (HeadSpec("reward"), HeadSpec("number", center=3.0, spread=2.0)):
        policy = tiny.headed("llama", head)
        assert score(policy).shape == (len(ROWS), 1)
        assert policy.model.score.bias is None
        assert policy.model.config.problem_type == "regression"


def test_a_row_that_has_no_end_is_refused_where_the_end_is_read() -> None:
    policy = tiny.headed("t5", CLASSES)
    with pytest.raises(ModelError, match="M143"):
        policy.score(collate([Rendered(row.ids[:-1], row.weight[:-1], 0) for row in ROWS]))


def test_rows_with_different_counts_of_ends_go_through_together() -> None:
    policy = tiny.headed("bart", CLASSES)
    twice = [Rendered(np.append(row.ids, 1), np.append(row.weight, 0), 0) for row in ROWS[:2]]
    together = policy.score(collate([ROWS[2], *twice, ROWS[3]]))
    assert torch.allclose(
        together, torch.cat([policy.score(collate([r])) for r in (ROWS[2], *twice, ROWS[3])]), atol=1e-5
    )


def test_a_head_of_words_and_one_of_classes_do_not_answer_for_each_other() -> None:
    with pytest.raises(ValueError, match="no head"):
        tiny.policy("bert").score(collate(ROWS))
    with pytest.raises(ValueError, match="classes in place of words"):
        tiny.headed("bert", CLASSES).logp(collate(ROWS))


def test_another_head_than_the_stored_one_is_drawn_anew(tmp_path: Path) -> None:
    base = resolve(str(tiny.save_folder(tmp_path / "base", "bert")), tmp_path)
    policy = load(base, head=CLASSES, seed=1)
    save_model(policy, tmp_path / "out", base=base.path, files=[], template="x", facts={})
    out = resolve(str(tmp_path / "out"), tmp_path)
    assert torch.equal(score(load(out, head=CLASSES, seed=5)), score(policy))
    other = HeadSpec("classes", ("x", "y", "z"))
    assert torch.equal(score(load(out, head=other, seed=2)), score(load(out, head=other, seed=2)))
    assert not torch.allclose(score(load(out, head=other, seed=2)), score(policy), atol=1e-3)
    assert "drawn anew" in load(out, head=other).exact.notes[-1]
    assert not load(out).exact.notes
    more = HeadSpec("labels", ("x", "y", "z", "w"))
    assert score(load(out, head=more)).shape == (len(ROWS), 4)
    trunk = load(out, head=more).model.bert.state_dict()
    assert all(torch.equal(trunk[key], tensor) for key, tensor in policy.model.bert.state_dict().items())


def test_a_head_of_others_is_understood(tmp_path: Path) -> None:
    plain = tiny.headed("roberta", HeadSpec("labels", ("a", "b", "c"))).model
    plain.save_pretrained(tmp_path / "theirs")
    policy = load(resolve(str(tmp_path / "theirs"), tmp_path))
    assert policy.head == HeadSpec("labels", ("a", "b", "c"))
    assert torch.allclose(score(policy), theirs(plain, CLASSES, ROWS), atol=1e-5)


def test_what_transformers_has_no_head_for_is_refused(tmp_path: Path) -> None:
    base = resolve(str(tiny.save_folder(tmp_path / "base", "bart")), tmp_path)
    with pytest.raises(ModelError, match=r"M114.*single tokens"):
        load(base, head=TAGS)


def test_layers_that_no_configuration_knows_are_still_refused(tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base", "bert")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ModelError, match=r"M110.*unexpected"):
        load(resolve(str(base), tmp_path), head=CLASSES)
    (base / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"M110.*missing"):
        load(resolve(str(base), tmp_path), head=CLASSES)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("classes", {"names": ("a",)}),
        ("classes", {"names": ("a", "a")}),
        ("number", {"names": ("a", "b")}),
        ("labels", {"names": ("a", "b"), "thresholds": (0.5,)}),
        ("number", {"spread": 0.0}),
    ],
)
def test_a_head_that_means_nothing_is_no_head(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name|threshold|spread"):
        HeadSpec(kind, **fields)


def test_what_a_head_means_is_kept(tmp_path: Path) -> None:
    spec = HeadSpec("labels", ("a", "b"), temperature=1.5, thresholds=(0.3, 0.6))
    assert HeadSpec.from_json(json.loads(json.dumps(spec.json()))) == spec
    (tmp_path / "sartor.json").write_text(json.dumps({"head": {"kind": "oracle"}}))
    with pytest.raises(ModelError, match="M115"):
        HeadSpec.of(tmp_path, {})


def test_two_texts_are_told_apart_where_the_tokenizer_does(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, processors

    from sartor.models.encoder import separator

    words = {"[CLS]": 0, "[SEP]": 1, "[PAD]": 2, "a": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="a"))
    types = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    specials = [("[CLS]", 0), ("[SEP]", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=types, special_tokens=specials
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert separator(tmp_path) == 1
    policy = tiny.headed("bert", CLASSES)
    policy.separator = 1
    first, second = np.array([0, 9, 8, 1]), np.array([7, 6, 5, 1])
    ids = np.concatenate([first, second]).astype(np.int32)
    found = policy.score(collate([Rendered(ids, np.zeros(8, np.float32), 0)]))
    kinds = torch.tensor([[0] * 4 + [1] * 4])
    own = policy.model(input_ids=torch.from_numpy(ids.astype(np.int64))[None], token_type_ids=kinds).logits
    assert torch.allclose(found, own, atol=1e-6)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=specials
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert separator(tmp_path) is None
