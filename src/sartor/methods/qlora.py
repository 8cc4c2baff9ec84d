"""QLoRA: LoRA on a base whose linear layers are held in 4 bits (Dettmers et al. 2023, equations 5 and 6) or in 8.

y = x dequantised(W) + (alpha / rank) x A B. The weights are rounded to one of 16 values in blocks of 64 (nf4: quantiles of a
normal distribution), the scales of the blocks to 8 bits; products are computed in `base.dtype`. The base stays as it is and is
quantised anew at every load, from the same files in the same way; an ordinary PEFT adapter folder is saved, with the
quantisation in its sartor.json. Base, few-shot and tuned model are all measured on the quantised base. int8 rounds each row of
a weight to whole numbers (models/rowwise.py) and needs no library. bitsandbytes' own 8-bit layers are not offered: which columns
they treat apart depends on all rows of a batch, so packed rows would not be exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationInfo, field_validator

from sartor.methods import lora
from sartor.models.quantization import Bits, Quantization
from sartor.options import Auto

if TYPE_CHECKING:
    from sartor.advise.hardware import Dtype
    from sartor.models.base import ModelPolicy

NEEDS = ("bitsandbytes", "quant")
"""Library, and the extra that installs it; of four bits."""
SAVES = lora.SAVES
NEW_TOKENS = True
MERGES = False
"""An adapter that learnt beside the rounded base does not fit the one that was not rounded as well."""
LEARNING_RATE = lora.LEARNING_RATE
learning_rate, trainable, width = lora.learning_rate, lora.trainable, lora.width
WEIGHT_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes a parameter of a quantised layer takes with double quantisation: its 4 bits, an 8-bit scale for 64, one in fp32 for
16,384. Without double quantisation 0.5625. Embeddings, output head, norms and biases keep `base.dtype`."""
EIGHT_BITS = 1 + 4 / 1024
"""The same of int8: a byte, and a scale in fp32 for each row, taken to be of 1,024 numbers."""


class Options(lora.Options):
    """Those of LoRA, and how the base is quantised."""

    quant_type: Bits = "nf4"
    """The 16 values of 4 bits: nf4 fits weights that are spread normally, fp4 are floating-point numbers; int8: 8 bits, whole numbers with a scale for each row."""
    double_quant: bool | Auto = "auto"
    """Quantise the scales of the blocks too, which saves 0.05 bytes a parameter; auto does with 4 bits, int8 has no blocks."""

    @field_validator("double_quant")
    @classmethod
    def _has_blocks(cls, value: bool | Auto, info: ValidationInfo) -> bool | Auto:
        if value is True and info.data.get("quant_type") == "int8":
            raise ValueError("int8 has one scale for each row and no blocks, so this has no effect")
        return value

    @property
    def double(self) -> bool:
        """`double_quant` with auto filled in."""
        return self.quant_type != "int8" and self.double_quant is not False


def needs(options: Options) -> tuple[str, str] | None:
    """Library, and the extra that installs it."""
    return None if options.quant_type == "int8" else NEEDS


def weight_bytes(options: Options) -> float:
    """Bytes that a parameter of a linear layer takes."""
    if options.quant_type == "int8":
        return EIGHT_BITS
    return WEIGHT_BYTES if options.double else 0.5625


def quantization(options: Options, dtype: Dtype) -> Quantization:
    """How the base must be loaded."""
    return Quantization(options.quant_type, options.double, dtype)


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the updates into a base loaded with `quantization`; only they are trainable."""
    from sartor.models.quantized import is_quantized

    if not is_quantized(policy.model):
        raise ValueError("QLoRA needs a base that was loaded with its quantization")
    lora.attach(policy, options, seed=seed)
