from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from sartor.errors import ModelError
from sartor.flow.writers import opener
from sartor.generate.rewriting import Filler, Rewriter
from sartor.protocols import MASK, Speaker

WORDS = ["[PAD]", "[UNK]", "[EOS]", "[MASK]", "the", "cat", "sat", "on", "mat", "##ing", "dog", "12"]


def tokenizer(folder: Path) -> None:
    made = Tokenizer(models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", mask_token="[MASK]"
    )
    fast.model_max_length = 32
    fast.save_pretrained(folder)


@pytest.fixture(scope="module")
def seq2seq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer(folder)
    return folder


def test_what_is_drawn_for_a_text_does_not_depend_on_the_others(seq2seq: Path) -> None:
    writer = Rewriter(seq2seq, "cpu")
    texts = ["the cat sat", "on the mat", "dog"]

    def answers(given: list[str], temperature: float, seed: int) -> dict[str, str]:
        made = writer.write(given, max_new_tokens=8, temperature=temperature, seed=seed)
        return {given[place]: text for place, text in made}

    drawn = answers(texts, 2.0, 1)
    assert drawn == answers(texts[::-1], 2.0, 1)
    assert answers(texts[1:2], 2.0, 1) == {texts[1]: drawn[texts[1]]}
    assert drawn != answers(texts, 2.0, 2)
    assert answers(texts, 0.0, 1) == answers(texts, 0.0, 2)


def test_a_masked_model_names_whole_words_the_likeliest_first(masked: Path) -> None:
    filler = Filler(masked, "cpu")
    ((place, answer),) = filler.write([f"the cat {MASK} on"], max_new_tokens=1, temperature=0, seed=0)
    assert place == 0
    words = answer.split("\n")
    assert set(words) <= {"the", "cat", "sat", "on", "mat", "dog"}
    model, own = BertForMaskedLM.from_pretrained(masked), PreTrainedTokenizerFast.from_pretrained(masked)
    with torch.no_grad():
        logits = model(**own("the cat [MASK] on", return_tensors="pt")).logits[0, 2]
    best = [WORDS[token] for token in logits.argsort(descending=True).tolist()]
    assert words == [word for word in best if word in words]
    assert dict(filler.write([f"{'cat ' * 40}{MASK}"], max_new_tokens=1, temperature=0, seed=0)) == {0: ""}


def test_models_are_opened_by_what_they_are_for(seq2seq: Path, masked: Path) -> None:
    models = opener(seq2seq.parent)
    assert isinstance(models(Speaker(seq2seq.name, "rewrite")), Rewriter)
    assert models(Speaker(seq2seq.name, "rewrite")) is models(Speaker(seq2seq.name, "rewrite"))
    with pytest.raises(ModelError, match="M172"):
        models(Speaker(str(masked), "rewrite"))
    with pytest.raises(ModelError, match="M172"):
        models(Speaker(str(seq2seq), "fill"))


def test_the_embedded_model_answers_alike_alone_and_among_others() -> None:
    writer = opener(Path())(Speaker("sartor/nano"))
    prompts = ["What is a card?", "Say hello."]
    both = dict(writer.write(prompts, max_new_tokens=6, temperature=0.9, seed=5))
    alone = dict(writer.write(prompts[1:], max_new_tokens=6, temperature=0.9, seed=5))
    assert both[1] == alone[0]
