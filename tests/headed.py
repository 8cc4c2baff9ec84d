"""What tests of heads share: rows of every kind, and tiny models of every kind with tokenizers as their families have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import job
import tiny
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
T5 = ("<pad>", "</s>", "<unk>", *(f"<extra_id_{index}>" for index in range(12)))
SIZE = 300
TAGS = {"red": "B-COLOUR", "blue": "B-COLOUR", "green": "B-COLOUR", "black": "B-COLOUR"}


def scored(count: int = 72) -> list[dict[str, Any]]:
    """An order with its number as the score, which stands in the text."""
    return [{"text": row["prompt"], "score": json.loads(row["completion"])["count"]} for row in job.orders(count)]


def pairs(count: int = 72) -> list[dict[str, Any]]:
    """Two orders; the score tells whether they are about one colour."""
    rows = job.orders(2 * count)
    return [
        {
            "sentence1": rows[2 * index]["prompt"],
            "sentence2": rows[2 * index + index % 2]["prompt"],
            "score": 5.0 if index % 2 == 0 else 1.5,
        }
        for index in range(count)
    ]


def multilabel(count: int = 72) -> list[dict[str, Any]]:
    """An order with its colour and its thing as labels, where these are among the first ones."""
    known = {*job.COLOURS[:2], *job.THINGS[:2]}
    return [{"text": row["prompt"], "labels": sorted(known & set(row["prompt"].split()))} for row in job.orders(count)]


def tagged(count: int = 72) -> list[dict[str, Any]]:
    """An order word by word; colours have a tag."""
    words = [row["prompt"].split() for row in job.orders(count)]
    return [{"tokens": each, "tags": [TAGS.get(word, "O") for word in each]} for each in words]


def wordpiece(folder: Path, corpus: Sequence[str]) -> None:
    """A tokenizer as BERT's: [CLS] a [SEP] b [SEP], token types, no end of text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [AddedToken(token, special=True) for token in BERT]
    tokenizer.train_from_iterator(
        corpus, trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=special, show_progress=False)
    )
    ids = {token: tokenizer.token_to_id(token) for token in BERT}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    about = {"pad": BERT[0], "unk": BERT[1], "cls": BERT[2], "sep": BERT[3], "mask": BERT[4]}
    _write(folder, tokenizer, about)


def byte_level(folder: Path, corpus: Sequence[str]) -> None:
    """A tokenizer as RoBERTa's: <s> a </s></s> b </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[AddedToken(token, special=True) for token in ROBERTA],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    about = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    _write(folder, tokenizer, about)


def unigram(folder: Path, corpus: Sequence[str]) -> None:
    """A tokenizer as T5's: a </s>, with sentinels."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = [AddedToken(token, special=True) for token in T5]
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE - 20, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    _write(folder, tokenizer, {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"})


def _write(folder: Path, tokenizer: Tokenizer, named: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256}
    about |= {f"{name}_token": token for name, token in named.items()}  # type: ignore[dict-item]
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")


TOKENIZERS = {"bert": wordpiece, "distilbert": wordpiece, "roberta": byte_level, "t5": unigram}


def corpus() -> list[str]:
    """What the tokenizers are made from."""
    return [text for row in job.orders() for text in row.values()]


def save_model(folder: Path, name: str, *, seed: int = 0) -> Path:
    """A Hugging Face folder with random weights and a tokenizer of its family."""
    if name in tiny.CONFIGS:
        return job.save_model(folder, name, seed=seed)
    from sartor.models.hf import random_model

    ids = {"bert": (0, None), "distilbert": (0, None), "roberta": (1, 2), "t5": (0, 1)}[name]
    changes = {"pad_token_id": ids[0], "eos_token_id": ids[1], "bos_token_id": 0 if name == "roberta" else None}
    if name == "t5":
        changes["decoder_start_token_id"] = 0
    random_model({**tiny.EVERY[name], **changes}, seed=seed).save_pretrained(folder)
    TOKENIZERS[name](folder, corpus())
    return folder
