"""Encoder-decoders without a chat template: the encoder reads up to an end-of-text token, the answer ends with one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from sartor.data.rows import Example, Message, Origin
from sartor.flow.prepare import renderer_for
from sartor.models.catalog import ModelFolder
from sartor.tokens.render import Renderer

WORDS = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", "my", "card", "lost", "where", "\n"])}


@pytest.fixture
def renderer(tmp_path: Path) -> Renderer:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    named = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    config = {"model_type": "t5", "is_encoder_decoder": True, "vocab_size": len(WORDS)}
    return renderer_for(ModelFolder(tmp_path, "t5", config))


def words(ids: np.ndarray) -> list[str]:
    names = {index: word for word, index in WORDS.items()}
    return [names[int(index)] for index in ids]


def test_the_prompt_ends_as_the_encoder_wants_it(renderer: Renderer) -> None:
    turns = [Message("user", "my card"), Message("assistant", "lost")]
    assert words(renderer.prompt(turns[:1])) == ["my", "card", "</s>"]
    ((told,),) = (
        made.rendered for made in renderer.render_many([(0, Example(origin=Origin("f", 1), messages=tuple(turns)))])
    )
    assert words(told.ids) == ["my", "card", "</s>", "lost", "</s>"]
    assert told.weight.tolist() == [0, 0, 0, 1, 1]
    assert renderer.completion("lost") == [WORDS["lost"], WORDS["</s>"]]


def test_earlier_turns_are_read_as_they_were_said(renderer: Renderer) -> None:
    turns = [Message("user", "my card"), Message("assistant", "lost"), Message("user", "where")]
    assert words(renderer.prompt(turns)) == ["my", "card", "</s>", "lost", "</s>", "where", "</s>"]
