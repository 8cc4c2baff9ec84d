"""Vision-text models against transformers itself: ids of the processor, logits, answers, adapters, saved folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seeing
import torch

from sartor.data.findings import Findings
from sartor.data.reading import read
from sartor.data.rows import Example
from sartor.errors import TokenError
from sartor.flow.prepare import renderer_for
from sartor.generate.local import LocalGenerator
from sartor.generate.vision import _known, goes_on
from sartor.methods import full, lora
from sartor.models.catalog import resolve
from sartor.models.kinds import kind_of
from sartor.models.load import load
from sartor.models.save import save_model
from sartor.models.vision import VisionPolicy
from sartor.objectives import sft
from sartor.tokens.batch import collate

FAMILIES = ("llava", "idefics3", "gemma3")
SIZES = ((16, 16), (40, 16), (20, 50))


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Example]]:
    """A model and rows that show one and two images of several sizes."""
    root = tmp_path_factory.mktemp(request.param)
    model = seeing.save_model(root / "model", request.param)
    draw = np.random.default_rng(0)
    names = []
    for number, (width, height) in enumerate(SIZES):
        names.append(f"{number}.png")
        seeing.Image.fromarray(draw.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(root / names[-1])
    rows = [{"image": name, "question": "What colour is it?", "answer": "red"} for name in names]
    rows.append({"images": names[:2], "question": "Which colour do you see?", "answer": "green blue"})
    rows.append({"question": "Name the <image> colour.", "answer": "white"})
    path = seeing.write(root / "rows.jsonl", rows)
    found = Findings()
    read_rows = [row for row in read(path, findings=found) if isinstance(row, Example)]
    assert not found.errors
    return model, read_rows


def processed(model: Path, row: Example, *, prompt: bool = False) -> Any:
    """What the model's own processor makes of this conversation, or of it up to the answer."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    turns = []
    for message in row.messages[: -1 if prompt else None]:
        text = message.content
        for image in message.images:
            text = text.replace(image.mark, "")
        parts: list[dict[str, Any]] = [{"type": "image"} for _ in message.images]
        turns.append({"role": message.role, "content": [*parts, {"type": "text", "text": text}]})
    said = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    pictures = [seeing.Image.open(image.file).convert("RGB") for message in row.messages for image in message.images]
    return processor(text=[said], images=[pictures], return_tensors="pt")


def theirs(model: Path, row: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """[T] ids and [T, V] logits of plain transformers with its own processor on this conversation."""
    from transformers import AutoModelForImageTextToText

    own = AutoModelForImageTextToText.from_pretrained(model).eval()
    given = processed(model, row)
    with torch.no_grad():
        return given["input_ids"][0], own(**given).logits[0]


def test_rows_are_what_the_processor_makes_of_them(made: tuple[Path, list[Example]]) -> None:
    model, rows = made
    folder = resolve(str(model), Path("/"))
    assert kind_of(folder) == "vision"
    renderer, policy = renderer_for(folder), load(folder)
    assert isinstance(policy, VisionPolicy)
    assert policy.exact.head is not None
    for index, row in enumerate(rows[:4]):
        (ours,) = renderer.render(row, index)
        ids, logits = theirs(model, row)
        assert ours.ids.tolist() == ids.tolist()
        assert not ours.weight[np.isin(ours.ids, renderer.sight.tokens(row.messages[0].images[0]))].any()
        batch = collate([ours])
        with torch.no_grad():
            assert float((policy.logits(batch) - logits[batch.at]).abs().max()) <= 1e-5
            own = torch.log_softmax(logits[batch.at].float(), -1).gather(1, batch.target[:, None])[:, 0]
            torch.testing.assert_close(policy.logp(batch), own, rtol=0, atol=1e-5)


def test_rows_do_not_see_each_other_and_the_order_of_images_counts(made: tuple[Path, list[Example]]) -> None:
    model, rows = made
    folder = resolve(str(model), Path("/"))
    renderer, policy = renderer_for(folder), load(folder)
    rendered = [renderer.render(row, index)[0] for index, row in enumerate(rows)]
    with torch.no_grad():
        together = policy.logp(collate(rendered))
        alone = torch.cat([policy.logp(collate([one])) for one in rendered])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
        if len(rendered[0]) == len(rendered[1]):
            turned = replace(rendered[3], images=rendered[3].images[::-1])
            other = policy.logp(collate([turned])) - policy.logp(collate([rendered[3]]))
            assert float(other.abs().max()) > 1e-6


def test_text_that_looks_like_a_placeholder_is_text(made: tuple[Path, list[Example]]) -> None:
    model, rows = made
    renderer = renderer_for(resolve(str(model), Path("/")))
    assert renderer.sight is not None
    (one,) = renderer.render(rows[4], 0)
    assert renderer.sight.placeholder not in one.ids
    assert "<image>" in renderer.decode([one.ids.tolist()])[0]


def test_a_mark_that_was_rewritten_is_refused(made: tuple[Path, list[Example]]) -> None:
    model, rows = made
    renderer = renderer_for(resolve(str(model), Path("/")))
    turn = rows[0].messages[0]
    lost = replace(rows[0], messages=(replace(turn, content="What colour is it?"), rows[0].messages[1]))
    with pytest.raises(TokenError, match="T241"):
        renderer.render(lost, 0)
    with pytest.raises(TokenError, match="T241"):
        renderer.prompt(lost.messages[:1])


def test_answers_are_those_of_the_model_itself(made: tuple[Path, list[Example]]) -> None:
    """Greedy answers with the cache, without it, and by transformers' own `generate`."""
    from transformers import AutoModelForImageTextToText

    model, rows = made
    folder = resolve(str(model), Path("/"))
    renderer, policy = renderer_for(folder), load(folder)
    generator = LocalGenerator(policy, frozenset({9999}), 1, lambda ids: " ".join(map(str, ids)), 4)
    prompts = [renderer.prompt(row.prompt()).tolist() for row in rows[:4]]
    shown = [row.messages[0].images for row in rows[:4]]
    assert goes_on(policy)
    made_with = {index: text for index, text, _ in generator.generate(prompts, max_new_tokens=6, images=shown)}
    _known[policy.model] = False
    without = {index: text for index, text, _ in generator.generate(prompts, max_new_tokens=6, images=shown)}
    assert made_with == without
    own = AutoModelForImageTextToText.from_pretrained(model).eval()
    for index, row in enumerate(rows[:4]):
        given = processed(model, row, prompt=True)
        assert given["input_ids"][0].tolist() == prompts[index]
        told = own.generate(**given, max_new_tokens=6, do_sample=False, eos_token_id=9999, pad_token_id=1)
        assert made_with[index] == " ".join(map(str, told[0, len(prompts[index]) :].tolist()))


def test_the_tower_moves_only_where_it_is_to(made: tuple[Path, list[Example]]) -> None:
    model, rows = made
    folder = resolve(str(model), Path("/"))
    renderer, policy = renderer_for(folder), load(folder)
    batch = collate(renderer.render(rows[0], 0))
    full.attach(policy, full.Options(), seed=0)
    still = {name for name, one in policy.model.named_parameters() if not one.requires_grad}
    assert still
    assert all(name.startswith(policy.tower) for name in still)
    sft.loss(policy, batch, sft.Options()).total.backward()
    between = [name for name in policy.trainable() if "connector" in name or "projector" in name]
    assert between
    assert all(bool(policy.trainable()[name].grad.any()) for name in between if name.endswith("weight"))
    policy.moves_tower = True
    full.attach(policy, full.Options(), seed=0)
    sft.loss(policy, batch, sft.Options()).total.backward()
    assert any(
        bool(one.grad.any()) for name, one in policy.model.named_parameters() if name in still and one.grad is not None
    )


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_lora_changes_the_words_alone_and_opens_in_peft(
    made: tuple[Path, list[Example]], targets: Any, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    model, rows = made
    folder = resolve(str(model), Path("/"))
    renderer, policy = renderer_for(folder), load(folder)
    batch = collate(renderer.render(rows[1], 0))
    with torch.no_grad():
        before = policy.logits(batch)
    lora.attach(policy, lora.Options(rank=4, target_modules=targets), seed=1)
    names = list(policy.trainable())
    assert names
    assert not any(part in name for name in names for part in policy.tower)
    torch.testing.assert_close(policy.logits(batch), before, rtol=0, atol=1e-6)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.05)
        tuned = policy.logits(batch)
    assert float((tuned - before).abs().max()) > 1e-3
    out = tmp_path / "adapter"
    save_model(
        policy, out, base=model, files=renderer.vocabulary.files, template=renderer.template.source,
        facts={"base": str(model), "best_step": 1},
    )  # fmt: skip
    again = load(resolve(str(out), Path("/")))
    with torch.no_grad():
        torch.testing.assert_close(again.logits(batch), tuned, rtol=0, atol=1e-6)
    opened = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(model), str(out)).eval()
    with torch.no_grad():
        told = opened(**processed(out, rows[1])).logits[0]
    torch.testing.assert_close(tuned, told[batch.at], rtol=0, atol=1e-5)


def test_a_saved_model_opens_in_plain_transformers(made: tuple[Path, list[Example]], tmp_path: Path) -> None:
    model, rows = made
    folder = resolve(str(model), Path("/"))
    renderer, policy = renderer_for(folder), load(folder)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.01)
    batch = collate(renderer.render(rows[0], 0))
    out = tmp_path / "model"
    save_model(
        policy, out, base=model, files=renderer.vocabulary.files, template=renderer.template.source, facts={"base": "x"}
    )
    assert json.loads((out / "config.json").read_text())["architectures"]
    ids, logits = theirs(out, rows[0])
    assert ids.tolist() == batch.ids[0].tolist()
    with torch.no_grad():
        torch.testing.assert_close(policy.logits(batch), logits[batch.at], rtol=0, atol=1e-5)
