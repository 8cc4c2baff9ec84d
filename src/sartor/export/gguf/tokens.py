"""A tokenizer.json as GGUF keeps it: words with their kinds, merges or scores, control tokens, and the chat template.

gpt2    byte-level BPE: merges, and the name under which llama.cpp knows how texts are cut before (`pre`)
llama   BPE over characters with bytes for the rest, as SentencePiece makes it: the score of a word is minus the rank of the
        merge that makes it, so that llama.cpp merges in the same order
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.export.gguf.architectures import Unfit

if TYPE_CHECKING:
    from sartor.tokens.render import Renderer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of words, as GGUF numbers them."""
BYTE_WORD = re.compile(r"<0x[0-9A-F]{2}>")
GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Tags that llama.cpp's renderer does not know; they mark what is learnt, and print nothing."""
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS: Mapping[str, str] = {
    _LETTERS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _LETTERS + r"\p{N}" + _REST: "qwen2",
}
"""Pattern by which texts are cut -> llama.cpp's name of it."""
PHI = "phi-3"
NEVER_STRIPS = ("<unk>", "<s>", "<|endoftext|>")
SCORELESS = -1e6
"""Of a word that no merge makes."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is written of a tokenizer."""

    settings: Mapping[str, Any]
    """Keys below `tokenizer.`."""
    strips: bool = False
    """Whether control tokens swallow the white space behind them; llama.cpp does that for models that are called phi-3."""

    def name(self, wanted: str) -> str:
        """The model's name: one by which llama.cpp reads control tokens as the tokenizer does."""
        if self.strips:
            return PHI
        return wanted if not any(part in wanted.lower() for part in (PHI, "phi3")) else "model"


def words(renderer: Renderer, rows: int) -> Words:
    """The tokenizer of a renderer for an embedding of `rows` rows. Raises Unfit."""
    vocabulary = renderer.vocabulary
    body = json.loads(vocabulary.texts.get("tokenizer.json") or _file(vocabulary.files))
    model = body["model"]
    if model.get("type") != "BPE":
        raise Unfit(f"a tokenizer of kind {model.get('type')} is not written, only BPE")
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    ids: dict[str, int] = dict(model["vocab"])
    added = {token["content"]: token for token in body["added_tokens"]}
    ids |= {text: token["id"] for text, token in added.items()}
    ids |= vocabulary.added
    special = vocabulary.special_tokens
    pieces = _pieces(body)
    byte_level = "ByteLevel" in pieces
    texts, kinds = [f"[PAD{index}]" for index in range(rows)], [UNUSED] * rows
    for text, index in ids.items():
        if index >= rows:
            raise Unfit(f"the tokenizer gives id {index}, and the model has {rows} rows")
        texts[index] = text
        if text in special:
            kinds[index] = CONTROL
        elif text in added or text in vocabulary.added:
            kinds[index] = USER_DEFINED
        else:
            kinds[index] = BYTE if not byte_level and BYTE_WORD.fullmatch(text) else NORMAL
    settings: dict[str, Any] = {"ggml.tokens": texts, "ggml.token_type": kinds}
    if byte_level:
        settings |= {"ggml.model": "gpt2", "ggml.pre": _cut(body)}
        settings["ggml.merges"] = [" ".join(merge) for merge in merges]
    else:
        if not model.get("byte_fallback"):
            raise Unfit("a BPE tokenizer that is neither of bytes nor falls back to bytes is not written")
        unknown = model.get("unk_token")
        if unknown in ids and kinds[ids[unknown]] != CONTROL:
            kinds[ids[unknown]] = UNKNOWN
        _require_all_splits(merges, set(model["vocab"]) - set(added))
        settings |= {"ggml.model": "llama", "ggml.scores": _scores(texts, merges)}
        settings["ggml.add_space_prefix"] = _prefixed(body)
    return Words(settings | _ends(renderer) | _template(renderer), strips=_strips(added, special))


def _strips(added: Mapping[str, Any], special: Mapping[str, int]) -> bool:
    """Raises Unfit where some control tokens swallow white space, and not those of Phi-3."""
    swallow = {text for text in special if added.get(text, {}).get("rstrip")}
    if not swallow:
        return False
    left = set(special) - swallow
    if not set(NEVER_STRIPS) <= set(special) or not left <= set(NEVER_STRIPS):
        raise Unfit(f"the control token {min(swallow)} swallows the white space behind it, which llama.cpp cannot say")
    return True


def _file(files: Any) -> str:
    path = next(file for file in files if file.name == "tokenizer.json")
    text: str = path.read_text(encoding="utf-8")
    return text


def _pieces(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The steps of the pre-tokenizer by kind."""
    whole = body.get("pre_tokenizer") or {}
    steps = whole.get("pretokenizers", [whole])
    return {step["type"]: step for step in steps if "type" in step}


def _cut(body: Mapping[str, Any]) -> str:
    """llama.cpp's name of how texts are cut."""
    pieces = _pieces(body)
    normal = body.get("normalizer")
    if normal is not None and normal.get("type") != "NFC":
        raise Unfit(f"its tokenizer changes texts first ({normal.get('type')}), which llama.cpp does not")
    if pieces["ByteLevel"].get("add_prefix_space"):
        raise Unfit("its tokenizer puts a space before every text, which llama.cpp does not for bytes")
    if set(pieces) == {"ByteLevel"} and pieces["ByteLevel"].get("use_regex", True):
        return "gpt-2"
    if set(pieces) == {"Digits", "ByteLevel"} and pieces["Digits"].get("individual_digits"):
        return "smollm"
    pattern = pieces.get("Split", {}).get("pattern", {}).get("Regex")
    if set(pieces) == {"Split", "ByteLevel"} and pattern in CUTS:
        name = CUTS[pattern]
        if bool(body["model"].get("ignore_merges")) != (name == "llama-bpe"):
            raise Unfit(f"its tokenizer is {name} but for ignore_merges")
        return name
    raise Unfit("its tokenizer cuts texts in a way that has no name in llama.cpp known here")


def _scores(texts: list[str], merges: list[list[str]]) -> list[float]:
    ranks: dict[str, float] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge), -float(rank))
    return [ranks.get(text, SCORELESS) for text in texts]


def _require_all_splits(merges: list[list[str]], words: set[str]) -> None:
    """llama.cpp joins any two words that make a third one; so must the merges, as those made from SentencePiece do."""
    known = {(first, second) for first, second in merges}
    for word in sorted(word for word in words if not BYTE_WORD.fullmatch(word)):
        for at in range(1, len(word)):
            pair = (word[:at], word[at:])
            if pair[0] in words and pair[1] in words and pair not in known:
                raise Unfit(f"its tokenizer never joins {pair[0]!r} and {pair[1]!r}, and llama.cpp would")


def _prefixed(body: Mapping[str, Any]) -> bool:
    """Whether a text begins as if a space stood before it."""
    normal = body.get("normalizer") or {}
    steps = normal.get("normalizers", [normal])
    cut = _pieces(body).get("Metaspace", {})
    return any(step.get("type") == "Prepend" for step in steps) or cut.get("prepend_scheme", "never") != "never"


def _ends(renderer: Renderer) -> dict[str, Any]:
    """Control tokens by what they are for. An answer may end at end-of-text, at the end of a turn, and at one more."""
    vocabulary = renderer.vocabulary
    stops = sorted(renderer.stop_ids)
    end = vocabulary.eos_id if vocabulary.eos_id in stops else (stops[0] if stops else None)
    others = [token for token in stops if token != end]
    if len(others) > 2:
        raise Unfit(f"answers end at {len(stops)} tokens, and a file has places for three")
    named = {
        "ggml.bos_token_id": vocabulary.bos_id,
        "ggml.eos_token_id": end,
        "ggml.padding_token_id": vocabulary.pad_id,
        "ggml.unknown_token_id": vocabulary.unknown_id,
        **dict(zip(("ggml.eot_token_id", "ggml.eom_token_id"), others, strict=False)),
    }
    found: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    return found | {"ggml.add_bos_token": begins(renderer), "ggml.add_eos_token": False}


def begins(renderer: Renderer) -> bool:
    """Whether a prompt begins with the beginning-of-text token, as it did in training."""
    from sartor.data.rows import Message

    return bool(renderer.prompt([Message("user", "a")])[0] == renderer.vocabulary.bos_id)


def _template(renderer: Renderer) -> dict[str, Any]:
    return {"chat_template": GENERATION.sub("", renderer.template.source)}
