"""Tiny random vision-text models with their processors, and coloured squares to ask them about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sartor.models.hf import random_model

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (30, 60, 220), "white": (245, 245, 245)}
QUESTIONS = ("What colour is it?", "Which colour do you see?", "Name the colour.")
SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
PLACEHOLDERS = {
    "llava": ("<image>",),
    "idefics3": ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"),
    "gemma3": ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
}
"""Tokens that stand for images, by kind of model."""
SHOWN = {"llava": "<image>", "idefics3": "<image>", "gemma3": "<start_of_image>"}
EXTRA = {
    "gemma3": {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
}
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}SHOWN{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 3,
         "pad_token_id": 1}  # fmt: skip
_VISION = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
           "image_size": 16, "patch_size": 8}  # fmt: skip


def config_of(name: str, vocabulary: int, image_token: int) -> dict[str, Any]:
    """A config.json."""
    ids = {"bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1}
    if name == "llava":
        return {
            "model_type": "llava",
            "text_config": {"model_type": "llama", "vocab_size": vocabulary, **_TEXT},
            "vision_config": {"model_type": "clip_vision_model", **_VISION, "projection_dim": 24},
            "image_token_index": image_token,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
            **ids,
        }
    if name == "idefics3":
        return {
            "model_type": "idefics3",
            "text_config": {"model_type": "llama", "vocab_size": vocabulary, **_TEXT},
            "vision_config": {"model_type": "idefics3_vision", **_VISION},
            "image_token_id": image_token,
            "scale_factor": 2,
            **ids,
        }
    return {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", "vocab_size": vocabulary, "head_dim": 8, **_TEXT},
        "vision_config": {"model_type": "siglip_vision_model", **_VISION},
        "mm_tokens_per_image": 4,
        "image_token_index": image_token,
        "boi_token_index": image_token - 2,
        "eoi_token_index": image_token - 1,
        **ids,
    }


def save_model(folder: Path, name: str = "llava", *, seed: int = 0) -> Path:
    """A Hugging Face folder with random weights, a byte-level tokenizer, a template and a processor."""
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[AddedToken(token, special=True) for token in (*SPECIAL, *PLACEHOLDERS[name])],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*QUESTIONS, *COLOURS] * 4, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], pad_token=SPECIAL[1], eos_token=SPECIAL[3],
        extra_special_tokens=EXTRA.get(name, {}),
    )  # fmt: skip
    fast.chat_template = TEMPLATE.replace("SHOWN", SHOWN[name])
    _processor(name, fast).save_pretrained(folder)
    fast.save_pretrained(folder)
    image = "<image_soft_token>" if name == "gemma3" else "<image>"
    config = config_of(name, len(fast) + 1, fast.convert_tokens_to_ids(image))
    model = random_model(config, seed=seed)
    if name == "gemma3":
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    model.save_pretrained(folder)
    return folder


def _processor(name: str, tokenizer: Any) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.idefics3 import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.llava import LlavaProcessor

    template = tokenizer.chat_template
    if name == "llava":
        pixels = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
        return LlavaProcessor(
            pixels, tokenizer, patch_size=8, vision_feature_select_strategy="default", image_token="<image>",
            num_additional_image_tokens=1, chat_template=template,
        )  # fmt: skip
    if name == "idefics3":
        pixels = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
        return Idefics3Processor(pixels, tokenizer, image_seq_len=1, chat_template=template)
    from transformers.models.gemma3 import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    pixels = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    return Gemma3Processor(pixels, tokenizer, chat_template=template, image_seq_length=4)


def squares(folder: Path, count: int = 48, *, size: int = 16) -> list[dict[str, str]]:
    """Rows about coloured squares, no two of them alike, and their images in folder/images."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        name = tuple(COLOURS)[index % len(COLOURS)]
        pixels = np.clip(np.array(COLOURS[name]) + draw.integers(-20, 20, (size, size, 3)), 0, 255)
        file = f"images/{index:03d}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / file)
        rows.append({"image": file, "question": QUESTIONS[index // len(COLOURS) % 3], "answer": name})
    return rows


def write(path: Path, rows: Sequence[Any]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
