"""A head on kept features learns what it learns on the live model, and the trunk is asked once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from sartor.errors import ModelError
from sartor.methods import probe
from sartor.models.base import ModelPolicy
from sartor.models.catalog import resolve
from sartor.models.heads import HeadSpec
from sartor.models.load import load
from sartor.models.save import save_model
from sartor.protocols import Loss
from sartor.tokens.batch import Batch, Rendered, collate

CLASSES = HeadSpec("classes", ("bad", "good", "so so"))
TAGS = HeadSpec("tags", ("O", "B-PER", "I-PER"))
NAMES = ("llama", "gpt2", "bert", "roberta", "distilbert", "modernbert", "deberta", "t5", "bart")
ALL = [*((name, CLASSES) for name in NAMES), *((name, TAGS) for name in NAMES if name != "bart")]
BOTH = pytest.mark.parametrize(("name", "head"), ALL, ids=[f"{name}-{head.kind}" for name, head in ALL])
FIRST = ("bert", "roberta", "distilbert", "modernbert", "deberta")


def rows(count: int, seed: int) -> list[Rendered]:
    draw, made = np.random.default_rng(seed), []
    for index in range(count):
        ids = np.append(draw.integers(3, tiny.VOCABULARY, draw.integers(3, 30)), 1).astype(np.int32)
        weight = np.zeros(len(ids), np.float32)
        weight[-1] = 1
        made.append(Rendered(ids, weight, index, np.array([index % 3], np.float32)))
    return made


ROWS, OTHERS = rows(12, 2), rows(4, 3)


def loss(policy: ModelPolicy, batch: Batch) -> Loss:
    score, target = policy.score(batch), batch.labels[:, 0].long()
    if len(score) != len(target):
        target = torch.repeat_interleave(target, torch.tensor(batch.lengths))
    return Loss(torch.nn.functional.cross_entropy(score, target, reduction="sum"), torch.tensor(float(len(score))))


def train(policy: ModelPolicy) -> None:
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.5)
    for begin in (0, 4, 8, 0, 4, 8):
        found = loss(policy, collate(ROWS[begin : begin + 4]))
        optimizer.zero_grad()
        (found.total / found.weight).backward()
        optimizer.step()


def calls(policy: ModelPolicy) -> list[int]:
    """Grows whenever the trunk computes something."""
    made: list[int] = []
    policy.model.base_model.register_forward_hook(lambda *_: made.append(1))
    policy.model.get_input_embeddings().register_forward_hook(lambda *_: made.append(1))
    return made


@BOTH
def test_it_learns_what_is_learnt_on_the_live_model(name: str, head: HeadSpec, tmp_path: Path) -> None:
    live = tiny.headed(name, head)
    for part in live.head_modules():
        live.model.get_submodule(part).requires_grad_(True)
    train(live)
    policy = tiny.headed(name, head)
    probe.attach(policy, probe.Options(), seed=0)
    assert policy.trainable().keys() == live.trainable().keys()
    policy.features.keep([tiny.Rows(ROWS)], tmp_path / "features", base="x")
    assert len(policy.features) == len(ROWS)
    assert policy.features.reads == ("all" if head is TAGS else "first" if name in FIRST else "last")
    asked = calls(policy)
    train(policy)
    assert not asked
    tiny.assert_close(dict(policy.model.named_parameters()), dict(live.model.named_parameters()))
    with torch.no_grad():
        assert torch.allclose(policy.score(collate(OTHERS)), live.score(collate(OTHERS)), atol=1e-5)
    assert asked


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_micro_batches_change_nothing(name: str, tmp_path: Path) -> None:
    policy = tiny.headed(name, CLASSES)
    probe.attach(policy, probe.Options(), seed=0)
    apart = torch.cat([policy.score(collate([row])) for row in ROWS])
    assert torch.allclose(policy.score(collate(ROWS)), apart, atol=1e-5)
    policy.features.keep([tiny.Rows(ROWS[:5]), tiny.Rows(ROWS[5:])], tmp_path / "features", base="x")
    assert torch.allclose(policy.score(collate(ROWS)), apart, atol=1e-5)


def test_what_was_kept_is_opened_again_and_only_for_the_same_trunk(tmp_path: Path) -> None:
    policy = tiny.headed("bert", CLASSES)
    probe.attach(policy, probe.Options(), seed=0)
    policy.features.keep([tiny.Rows(ROWS)], tmp_path / "features", base="x")
    asked = calls(policy)
    policy.features.keep([tiny.Rows(ROWS)], tmp_path / "features", base="x")
    assert not asked
    policy.features.keep([tiny.Rows(ROWS)], tmp_path / "features", base="y")
    assert asked
    asked.clear()
    (part,) = (tmp_path / "features").glob("part-*.safetensors")
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    policy.features.keep([tiny.Rows(ROWS)], tmp_path / "features", base="y")
    assert asked


def test_several_ranks_keep_a_share_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sartor.models.features.PART", 32 * 3)
    policy = tiny.headed("bert", CLASSES)
    probe.attach(policy, probe.Options(), seed=0)
    wanted = policy.score(collate(ROWS))
    policy.features.keep([tiny.Rows(ROWS)], tmp_path / "features", base="x")
    assert len(list((tmp_path / "features").glob("part-*"))) > 2
    asked = calls(policy)
    assert torch.allclose(policy.score(collate(ROWS)), wanted, atol=1e-6)
    assert not asked


def test_the_head_has_its_dropout_and_the_trunk_has_none() -> None:
    policy = tiny.headed("bert", CLASSES, hidden_dropout_prob=0.5)
    probe.attach(policy, probe.Options(), seed=0)
    policy.train()
    assert not torch.allclose(policy.score(collate(ROWS)), policy.score(collate(ROWS)))
    assert torch.equal(policy.features._live(collate(ROWS)), policy.features._live(collate(ROWS)))
    assert policy.model.training


def test_the_trunk_stays_to_the_bit_and_the_model_loads_as_any(tmp_path: Path) -> None:
    base = resolve(str(tiny.save_folder(tmp_path / "base", "bert")), tmp_path)
    policy = load(base, head=CLASSES, seed=1)
    assert "bert.pooler" in policy.head_modules(), "the base has none, so it is drawn with the head"
    before = {name: p.clone() for name, p in policy.model.named_parameters()}
    probe.attach(policy, probe.Options(), seed=0)
    train(policy)
    moved = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {f"{part}.{leaf}" for part in ("classifier", "bert.pooler.dense") for leaf in ("weight", "bias")}
    save_model(policy, tmp_path / "out", base=base.path, files=[], template="x", facts={})
    again = load(resolve(str(tmp_path / "out"), tmp_path))
    with torch.no_grad():
        assert torch.allclose(again.score(collate(ROWS)), policy.score(collate(ROWS)), atol=1e-6)


def test_words_are_refused() -> None:
    with pytest.raises(ModelError, match="M181"):
        probe.attach(tiny.policy("llama"), probe.Options(), seed=0)
