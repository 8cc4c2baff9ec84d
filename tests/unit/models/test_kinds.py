"""Encoders and encoder-decoders give what transformers' own models give: logits, losses, gradients, whatever is beside a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from sartor.errors import ModelError
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.padding import PART, SLACK, groups
from sartor.models.save import save_model
from sartor.tokens.batch import Batch, Rendered, collate, collate_shared

RAGGED = tiny.rows(9, seed=4, longest=40)


def hiding(rows: list[Rendered]) -> Batch:
    """A batch that asks for tokens at their own places, as masked language modelling does."""
    batch = collate(rows)
    return Batch(**{name: getattr(batch, name) for name in batch.__slots__} | {"at": batch.at + 1})


def padded(rows: list[Rendered], pad: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of whole rows, padded by hand on the right."""
    longest = max(map(len, rows))
    ids, mask = torch.full((len(rows), longest), pad), torch.zeros(len(rows), longest, dtype=torch.int64)
    for line, row in enumerate(rows):
        ids[line, : len(row)] = torch.from_numpy(row.ids.astype(np.int64))
        mask[line, : len(row)] = 1
    return ids, mask


def pairs(rows: list[Rendered]) -> dict[str, torch.Tensor]:
    """(input_ids, attention_mask, labels) of rows as transformers' users make them."""
    first = [int(np.flatnonzero(row.weight[1:])[0]) + 1 for row in rows]
    ids, mask = padded([Rendered(row.ids[:at], row.weight[:at], 0) for row, at in zip(rows, first, strict=True)])
    labels, _ = padded([Rendered(row.ids[at:], row.weight[at:], 0) for row, at in zip(rows, first, strict=True)], -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def even(rows: list[Rendered]) -> list[Rendered]:
    """The same with every answer's token counting as much as another."""
    return [Rendered(row.ids, (row.weight > 0).astype(np.float32), row.row) for row in rows]


def gradient(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", tiny.ENCODERS)
def test_an_encoder_tells_the_logits_of_its_own_forward(name: str) -> None:
    policy, batch = tiny.policy(name), hiding(RAGGED)
    ids, mask = padded(RAGGED)
    with torch.no_grad():
        own = policy.model(input_ids=ids, attention_mask=mask).logits
        starts = np.cumsum([0, *map(len, RAGGED)])
        line = [int(at) - starts[int(row)] for at, row in zip(batch.at, batch.row, strict=True)]
        wanted = own[batch.row, torch.tensor(line)]
        assert torch.allclose(policy.logits(batch), wanted, atol=1e-5)
        found = policy.hidden(batch)
        states = policy.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(found, states[mask.bool()], atol=1e-5)
    assert policy.exact.packs
    assert not policy.exact.shares
    assert policy.exact.head is not None


@pytest.mark.parametrize("name", tiny.ENCODERS)
def test_an_encoder_has_the_loss_and_gradient_of_transformers(name: str) -> None:
    policy, rows = tiny.policy(name), even(RAGGED)
    policy.model.requires_grad_(True)
    batch = hiding(rows)
    ids, mask = padded(rows)
    labels = torch.where(padded([Rendered(row.weight, row.weight, 0) for row in rows], 0)[0] > 0, ids, -100)
    labels[:, 0] = -100
    theirs = policy.model(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected = gradient(policy.model, theirs)
    ours = policy.nll(batch) / batch.weight.sum()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    tiny.assert_close(gradient(policy.model, ours), expected)


@pytest.mark.parametrize("name", tiny.ENCODER_DECODERS)
def test_an_encoder_decoder_has_the_loss_and_gradient_of_transformers(name: str) -> None:
    policy, rows = tiny.policy(name), even(RAGGED)
    policy.model.requires_grad_(True)
    batch = collate(rows)
    theirs = policy.model(**pairs(rows))
    expected = gradient(policy.model, theirs.loss)
    ours = policy.nll(batch) / batch.weight.sum()
    assert float(ours) == pytest.approx(float(theirs.loss), rel=1e-5)
    tiny.assert_close(gradient(policy.model, ours), expected)
    with torch.no_grad():
        places = pairs(rows)["labels"] != -100
        assert torch.allclose(policy.logits(batch), theirs.logits[places], atol=1e-5)
        logp = theirs.logits.log_softmax(-1)[places].gather(1, batch.target[:, None])[:, 0]
        assert torch.allclose(policy.logp(batch), logp, atol=1e-5)
    assert policy.exact.head is not None


def test_what_stands_behind_the_logits_of_a_decoder_is_added() -> None:
    policy = tiny.policy("bart")
    policy.model.final_logits_bias.copy_(torch.linspace(-1, 1, tiny.VOCABULARY)[None])
    with torch.no_grad():
        theirs = policy.model(**pairs(RAGGED)).logits[pairs(RAGGED)["labels"] != -100]
        assert torch.allclose(policy.logits(collate(RAGGED)), theirs, atol=1e-5)


@pytest.mark.parametrize("name", [*tiny.ENCODERS, *tiny.ENCODER_DECODERS])
def test_micro_batches_change_nothing(name: str) -> None:
    policy = tiny.policy(name)
    policy.model.requires_grad_(True)
    make = hiding if policy.kind == "encoder" else collate
    whole = policy.nll(make(RAGGED))
    expected = gradient(policy.model, whole)
    parts = sum(policy.nll(make(RAGGED[begin : begin + 2])) for begin in range(0, len(RAGGED), 2))
    assert float(parts) == pytest.approx(float(whole), rel=1e-5)
    tiny.assert_close(gradient(policy.model, parts), expected)


@pytest.mark.parametrize("name", tiny.ENCODER_DECODERS)
def test_a_prompt_with_several_answers_is_read_once(name: str) -> None:
    policy = tiny.policy(name)
    policy.model.requires_grad_(True)
    prompts = [RAGGED[0].ids[:5], RAGGED[1].ids[:3]]
    answers = [np.arange(9, 12), np.arange(20, 21), np.arange(40, 46)]
    rows = [
        Rendered(np.concatenate([prompt, answer]).astype(np.int32), np.repeat([0, 1], [len(prompt), len(answer)]), 0)
        for prompt in prompts
        for answer in answers
    ]
    apart = torch.cat([policy.logp(collate([row])) for row in rows])
    expected = gradient(policy.model, apart.sum())
    read: list[int] = []
    policy.model.get_encoder().register_forward_hook(lambda _, __, out: read.append(len(out.last_hidden_state)))
    together = policy.logp(collate(rows))
    assert read == [2]
    assert torch.allclose(together, apart, atol=1e-5)
    tiny.assert_close(gradient(policy.model, together.sum()), expected)


def test_text_between_answers_is_refused() -> None:
    weight = np.array([0, 0, 1, 1, 0, 1, 1], np.float32)
    row = Rendered(np.arange(3, 10, dtype=np.int32), weight, 7)
    with pytest.raises(ModelError, match=r"M142.*row 7"):
        tiny.policy("t5").logp(collate([row]))


def test_what_stands_behind_the_answer_is_read_by_nobody() -> None:
    policy = tiny.policy("t5")
    weight = np.array([0, 0, 1, 1, 0, 0], np.float32)
    logps = [policy.logp(collate([Rendered(np.array([5, 6, 7, 8, a, b]), weight, 0)])) for a, b in ((9, 10), (11, 12))]
    assert torch.equal(*logps)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_shared_beginnings_are_refused(name: str) -> None:
    row = np.arange(3, 60, dtype=np.int32)
    weight = np.ones(57, np.float32)
    batch = collate_shared([Rendered(row, weight, 0), Rendered(np.append(row, 9), np.append(weight, 1), 1)], least=2)
    with pytest.raises(ValueError, match="shar"):
        tiny.policy(name).logp(batch)


@pytest.mark.parametrize("name", ["llama", "bert", "t5", "bart"])
def test_a_batch_without_scored_places_has_a_loss_of_zero_that_can_be_differentiated(name: str) -> None:
    policy = tiny.policy(name)
    policy.model.requires_grad_(True)
    loss = policy.nll(collate([Rendered(row.ids, np.zeros(len(row), np.float32), 0) for row in RAGGED[:3]]))
    loss.backward()
    assert float(loss) == 0


@pytest.mark.parametrize(("name", "auto"), [("roberta", AutoModelForMaskedLM), ("bart", AutoModelForSeq2SeqLM)])
def test_trained_saved_and_loaded_they_stay_the_same(tmp_path: Path, name: str, auto: type) -> None:
    policy = load(resolve(str(tiny.save_folder(tmp_path / "base", name)), tmp_path))
    policy.model.requires_grad_(True)
    before = policy.logp(collate(RAGGED)).detach()
    tiny.train(policy, tiny.rows(12), tmp_path / "steps", epochs=1)
    policy.eval()
    save_model(policy, tmp_path / "out", base=tmp_path / "base", files=[], template="x", facts={})
    found = policy.logp(collate(RAGGED)).detach()
    assert not torch.allclose(found, before, atol=1e-3)
    again = load(resolve(str(tmp_path / "out"), tmp_path))
    assert torch.equal(again.logp(collate(RAGGED)), found)
    plain = auto.from_pretrained(tmp_path / "out").eval()
    ours, theirs = policy.model.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def test_positions_behind_the_padding_count() -> None:
    assert tiny.policy("roberta").window == 256
    assert tiny.policy("bert").window == 256
    rows = [Rendered(np.full(256, 9, np.int32), np.ones(256, np.float32), 0)]
    assert tiny.policy("roberta").hidden(collate(rows)).shape == (256, 32)


def test_rows_of_like_length_go_together() -> None:
    lengths = [3, 400, 380, 5, 40, 41, 390, 4, 399]
    made = groups(lengths)
    assert sorted(row for rows in made for row in rows) == list(range(len(lengths)))
    for rows in made:
        longest = max(lengths[row] for row in rows)
        tokens = longest * len(rows)
        assert tokens - sum(lengths[row] for row in rows) <= max(SLACK, tokens / PART)
    assert len(made) == 2
    assert groups([7] * 5) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_a_value_head_gives_a_number_for_each_scored_place(name: str, tmp_path: Path) -> None:
    policy = tiny.policy(name)
    with pytest.raises(ValueError, match="value head"):
        policy.values(collate(RAGGED))
    policy.add_value_head()
    batch = collate(RAGGED)
    logp, values = policy.logp_and_values(batch)
    assert torch.equal(values, torch.zeros(len(batch.at)))
    assert torch.equal(logp, policy.logp(batch))
    with torch.no_grad():
        policy.value_head.weight.copy_(torch.linspace(-1, 1, 32)[None])
    one_by_one = torch.cat([policy.values(collate([row])) for row in RAGGED])
    assert torch.allclose(policy.values(batch), one_by_one, atol=1e-5)
    assert set(policy.trainable()) == {"value_head.weight", "value_head.bias"}
    save_model(policy, tmp_path / "out", base=tmp_path, files=[], template="x", facts={})
    from safetensors import safe_open

    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert not [key for key in file.keys() if "value" in key and "head" in key]  # noqa: SIM118
