"""Tiny real tokenizers of three kinds, and chat templates of fifteen model families in their own syntax."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from sartor.tokens.template import ChatTemplate
from sartor.tokens.vocabulary import Vocabulary

TEMPLATES = Path(__file__).parents[2] / "fixtures" / "templates"

CORPUS = [
    "The quick brown fox jumps over the lazy dog. What is the weather in Paris today? It is sunny and warm.",
    "user assistant system tool model User: Assistant: USER: ASSISTANT: answer question hello world yes no maybe",
    'def f(x):\n    return {"name": "get_weather", "arguments": {"city": "Berlin"}}\n\nThank you. Of course! 1 2 3 42 2024',
    "Grüße aus Köln, naïve café, größer als 10 €; please summarise the following text for me, would you?",
] * 3


@dataclass(frozen=True)
class Family:
    """How one family of models marks its turns."""

    name: str
    bos: str | None
    eos: str
    control: tuple[str, ...]
    plain: tuple[str, ...] = ()
    end: str = ""
    rstrip: bool = False
    system: bool = True
    tools: bool = False
    reasoning: bool = False
    alternates: bool = False
    strips: bool = False


FAMILIES = {
    family.name: family
    for family in [
        Family("chatml", None, "<|im_end|>", ("<|im_start|>", "<|im_end|>"), end="<|im_end|>"),
        Family("smollm2", "<|im_start|>", "<|im_end|>", ("<|im_start|>", "<|im_end|>"), end="<|im_end|>"),
        Family(
            "llama3",
            "<|begin_of_text|>",
            "<|eot_id|>",
            ("<|start_header_id|>", "<|end_header_id|>"),
            end="<|eot_id|>",
            tools=True,
            strips=True,
        ),
        Family(
            "qwen2.5",
            None,
            "<|im_end|>",
            ("<|endoftext|>", "<|im_start|>"),
            ("<tool_call>", "</tool_call>"),
            end="<|im_end|>",
            tools=True,
        ),
        Family(
            "qwen3",
            None,
            "<|im_end|>",
            ("<|endoftext|>", "<|im_start|>"),
            ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
            end="<|im_end|>",
            tools=True,
            reasoning=True,
        ),
        Family(
            "gemma3",
            "<bos>",
            "<eos>",
            ("<start_of_turn>", "<end_of_turn>"),
            end="<end_of_turn>",
            alternates=True,
            strips=True,
        ),
        Family(
            "mistral-v3",
            "<s>",
            "</s>",
            (
                "[INST]",
                "[/INST]",
                "[TOOL_CALLS]",
                "[AVAILABLE_TOOLS]",
                "[/AVAILABLE_TOOLS]",
                "[TOOL_RESULTS]",
                "[/TOOL_RESULTS]",
            ),
            end="</s>",
            tools=True,
            alternates=True,
            system=False,
        ),
        Family(
            "phi3",
            "<s>",
            "<|endoftext|>",
            ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
            end="<|end|>",
            rstrip=True,
        ),
        Family("zephyr", "<s>", "</s>", (), end="</s>"),
        Family(
            "deepseek-r1",
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            (),
            ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
            end="<｜end▁of▁sentence｜>",
        ),
        Family(
            "command-r",
            "<BOS_TOKEN>",
            "<|END_OF_TURN_TOKEN|>",
            (),
            ("<|START_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
            end="<|END_OF_TURN_TOKEN|>",
            alternates=True,
            strips=True,
        ),
        Family(
            "granite",
            "<|end_of_text|>",
            "<|end_of_text|>",
            ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
            end="<|end_of_text|>",
            tools=True,
        ),
        Family(
            "gpt-oss",
            "<|startoftext|>",
            "<|return|>",
            ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
            end="<|return|>",
            tools=True,
            reasoning=True,
        ),
        Family("vicuna", "<s>", "</s>", (), end="</s>"),
        Family("llama2", "<s>", "</s>", (), end=" </s>", alternates=True, strips=True),
    ]
}


def special_tokens(family: Family) -> list[AddedToken]:
    """All added tokens of a family."""
    names = dict.fromkeys([family.bos, family.eos, *family.control])
    control = [
        AddedToken(name, special=True, normalized=False, rstrip=family.rstrip and name not in (family.bos, family.eos))
        for name in names
        if name
    ]
    return control + [AddedToken(name, special=False, normalized=False) for name in family.plain]


@cache
def _trained(kind: str) -> str:
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            CORPUS, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
        )
        return tokenizer.to_str()
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Replace(Regex(" {3,}"), "  ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        trainer = trainers.UnigramTrainer(
            vocab_size=400, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        return tokenizer.to_str()
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator([piece for text in CORPUS for piece in text.split(" ")], trainer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    body = json.loads(tokenizer.to_str())
    body["added_tokens"] = [token for token in body["added_tokens"] if token["content"] == "<unk>"]
    if kind == "legacy":
        body["pre_tokenizer"] = None
        body["normalizer"] = {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        }
    return json.dumps(body)


def write_model(folder: Path, kind: str, family: Family) -> Path:
    """A folder with tokenizer.json, tokenizer_config.json and chat_template.jinja of one family."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_str(_trained(kind))
    tokenizer.add_tokens(special_tokens(family))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "TokenizersBackend", "eos_token": family.eos, "clean_up_tokenization_spaces": False}
    config |= {"bos_token": family.bos} if family.bos else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text((TEMPLATES / f"{family.name}.jinja").read_text())
    return folder


@dataclass(frozen=True)
class Model:
    """A loaded vocabulary with its template."""

    folder: Path
    family: Family
    vocabulary: Vocabulary
    template: ChatTemplate


def load(folder: Path, family: Family) -> Model:
    """The model of a folder."""
    vocabulary = Vocabulary.load(folder)
    return Model(folder, family, vocabulary, ChatTemplate(vocabulary.template or "", vocabulary.named))
