"""A model's vocabulary from its own files, on the Rust tokenizer, without transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.errors import Problem, TokenError
from sartor.tokens.controls import Controls
from sartor.tokens.growth import Growth

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
_SLOW_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class Frame:
    """Ids of the control tokens round one text, and round two; None where two texts have no form of their own."""

    single: tuple[tuple[int, ...], tuple[int, ...]]
    """Before and behind."""
    pair: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None
    """Before, between and behind."""


class Vocabulary:
    """Text to token ids and back.

    Args:
        tokenizer_json: the text of tokenizer.json.
        config: tokenizer_config.json.
        templates: chat templates by name; "default" is the usual one.
        files: what must lie beside a saved model.
        label: name of the file for messages.

    Raises:
        TokenError: T222, not a tokenizer.
    """

    def __init__(
        self,
        tokenizer_json: str,
        config: Mapping[str, Any],
        *,
        templates: Mapping[str, str] | None = None,
        files: tuple[Path, ...] = (),
        label: str = "tokenizer.json",
    ) -> None:
        from tokenizers import AddedToken

        self._json = tokenizer_json
        self._tokenizer = _parse(tokenizer_json, label)
        late = _late_tokens(config)
        self._tokenizer.add_tokens([AddedToken(**token) for token in late])
        self.templates, self.files = dict(templates or {}), files
        self.growth: Growth | None = None
        """Tokens that the model was given, or is to be given, beside its own."""
        self.texts: dict[str, str] = {}
        """What files must hold beside a saved model, where it is not what they hold here; by name."""
        self._tokenizer.add_special_tokens(_special_words(config, self._tokenizer))
        self.named = {name: text for name in NAMES if (text := _text(config.get(name))) is not None}
        """bos_token, eos_token ... as far as the vocabulary has them: the variables of chat templates. Where texts are framed by
        [CLS] and [SEP] alone, these begin and end them."""
        for name, other in (("bos_token", "cls_token"), ("eos_token", "sep_token")):
            if other in self.named:
                self.named.setdefault(name, self.named[other])
        decoder = sorted(self._tokenizer.get_added_tokens_decoder().items())
        self.added: dict[str, int] = {token.content: index for index, token in decoder}
        """Every token that is cut out of the text before the tokenizer's model runs."""
        self.added_tokens: list[dict[str, Any]] = [
            {"content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}} for _, token in decoder
        ]
        special = {token.content for _, token in decoder if token.special} | set(self.named.values())
        self.special_tokens: dict[str, int] = {text: index for text, index in self.added.items() if text in special}
        """Control tokens; a user's text never makes one."""

    @classmethod
    def load(cls, folder: Path, add: Sequence[str] = ()) -> Vocabulary:
        """Read tokenizer.json, tokenizer_config.json and the chat templates of a model folder, with further tokens.

        What is to be added may be there already where sartor.json says that it was added.

        Raises:
            TokenError: T221 no tokenizer.json, T222 a damaged file, T235 a token that cannot be added.
        """
        source = folder / "tokenizer.json"
        if not source.is_file():
            raise TokenError(_no_tokenizer(folder))
        config = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
        named = tuple(path for name in FILES if (path := folder / name).is_file())
        more = tuple(sorted(folder.glob("additional_chat_templates/*.jinja")))
        templates = _templates(folder, config)
        growth, body = Growth.of(folder), _read(source)
        if add and (growth is None or growth.tokens != tuple(add)):
            growth, body = _grown(body, config, add, str(source))
        made = cls(body, config, templates=templates, files=named + more, label=str(source))
        made.growth = growth
        if growth is not None and body != _read(source):
            made.texts = {"tokenizer.json": body} | _listed(folder / "tokenizer_config.json", growth)
        return made

    @property
    def template(self) -> str | None:
        """The chat template that the vocabulary comes with."""
        return self.templates.get("default")

    @cached_property
    def size(self) -> int:
        """One more than the largest token id."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @cached_property
    def frame(self) -> Frame:
        """The control tokens that the tokenizer itself puts round one text, and round two: [CLS] a [SEP] b [SEP]."""
        from tokenizers import Tokenizer

        own = Tokenizer.from_str(self._json)
        own.no_truncation()
        own.no_padding()
        before, after = _around(own.encode("a").sequence_ids, own.encode("a").ids)
        both = own.encode("a", "a")
        middle = [index for index, text in zip(both.ids, both.sequence_ids, strict=True) if text is None]
        if len(middle) == len(before) + len(after) == 0:
            return Frame((before, after), None)
        last = max(place for place, text in enumerate(both.sequence_ids) if text == 0)
        first = both.sequence_ids.index(1)
        start, end = _around(both.sequence_ids, both.ids)
        between = tuple(both.ids[last + 1 : first])
        return Frame((before, after), (start, between, end) if between else None)

    @property
    def text_frame(self) -> Frame:
        """Beginning-of-text and end-of-text round a text, as far as the vocabulary has them: what a decoder reads."""
        before, after = (() if index is None else (index,) for index in (self.bos_id, self.eos_id))
        return Frame((before, after), None)

    @property
    def mask_id(self) -> int | None:
        """Id that stands for a hidden token."""
        return self._named_id("mask_token")

    @property
    def bos_id(self) -> int | None:
        """Id of the beginning-of-text token."""
        return self._named_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """Id of the end-of-text token."""
        return self._named_id("eos_token")

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token."""
        return self._named_id("pad_token")

    @cached_property
    def unknown_id(self) -> int | None:
        """Id that stands for characters the vocabulary does not have."""
        model = self._tokenizer.model
        if type(model).__name__ == "Unigram":
            index: int | None = json.loads(self._json)["model"].get("unk_id")
        else:
            index = self._tokenizer.token_to_id(getattr(model, "unk_token", None) or "")
        return self._named_id("unk_token") if index is None else index

    def _named_id(self, name: str) -> int | None:
        index: int | None = self._tokenizer.token_to_id(self.named.get(name, ""))
        return index

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides how text becomes ids."""
        body = json.dumps([self._json, self.added_tokens, self.named], sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()

    def difference(self, other: Vocabulary) -> str | None:
        """The first thing that makes other ids of a text there, for people; None where text is read alike."""
        ours, theirs = (each._tokenizer.get_vocab(with_added_tokens=True) for each in (self, other))
        differ = [word for word in ours.keys() | theirs.keys() if ours.get(word) != theirs.get(word)]
        if differ:
            word = min(differ, key=lambda word: (ours.get(word, theirs.get(word, 0)), word))
            here, there = ours.get(word, "missing"), theirs.get(word, "missing")
            return f"the id of {word!r} is {here} in one and {there} in the other"
        mine, yours = (json.loads(each._tokenizer.to_str()) for each in (self, other))
        keys = [key for key in ("normalizer", "pre_tokenizer", "model", "added_tokens") if mine[key] != yours[key]]
        return f"{keys[0]} in tokenizer.json is not the same" if keys else None

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text, nothing added. `special`: control tokens written in it count as such, else they are text.

        Raises:
            TokenError: without `special`: T223 a vocabulary that cannot keep the two apart, T224.
        """
        if not special:
            return self.controls.encode(text)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def placed(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a user's text, in which nothing is a control token, and the characters that each covers.

        Raises:
            TokenError: T223, T224.
        """
        if self.controls.pattern.search(text):
            return self.controls.encode_marked(self.controls.mark(text, self.controls.pattern))
        encoding = self.encodings([text])[0]
        return encoding.ids, encoding.offsets

    def encode_many(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """`encode` for many texts at once."""
        if special or not any(self.controls.pattern.search(text) for text in texts):
            return [encoding.ids for encoding in self.encodings(texts)]
        return [self.controls.encode(text) for text in texts]

    def encodings(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids and character offsets of many texts; control tokens written in them count as such."""
        encodings: list[Encoding] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return encodings

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        text: str = self._tokenizer.decode([int(index) for index in ids], skip_special_tokens=False)
        return text

    def decode_many(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many rows at once."""
        texts: list[str] = self._tokenizer.decode_batch(list(rows), skip_special_tokens=False)
        return texts

    def token(self, index: int) -> str:
        """The vocabulary's own spelling of one id."""
        text: str | None = self._tokenizer.id_to_token(int(index))
        return f"<{index}?>" if text is None else text

    @cached_property
    def longest(self) -> int:
        """Characters of the longest token, as the vocabulary writes it: a text of n characters has at least n / longest tokens."""
        return max(map(len, self._tokenizer.get_vocab()))

    @cached_property
    def controls(self) -> Controls:
        """The control tokens as such, whatever the template."""
        return Controls(self, tuple(self.special_tokens))

    def tokenizer_with(self, added: Sequence[Mapping[str, Any]]) -> Tokenizer:
        """The same tokenizer with other added tokens."""
        from tokenizers import AddedToken

        body = json.loads(self._json)
        body["added_tokens"] = []
        body["post_processor"] = None
        tokenizer = _parse(json.dumps(body), "tokenizer.json")
        tokenizer.add_tokens([AddedToken(**token) for token in added])
        return tokenizer


def check_size(vocabulary: Vocabulary, rows: int, label: str) -> list[Problem]:
    """T220 when the vocabulary has ids that the model's embedding, with `rows` rows, does not have."""
    if vocabulary.size <= rows:
        return []
    return [
        Problem(
            "T220",
            f"the tokenizer gives ids up to {vocabulary.size - 1:,}, the model's embedding has {rows:,} rows",
            file=label,
            fix="use the tokenizer that belongs to this model",
        )
    ]


def _around(texts: Sequence[int | None], ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids before the first text and behind the last one."""
    inside = [place for place, text in enumerate(texts) if text is not None]
    return tuple(ids[: inside[0]]), tuple(ids[inside[-1] + 1 :])


_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def _parse(text: str, label: str) -> Tokenizer:
    """Without truncation, padding, control tokens put in front and trimmed offsets: exactly the text that is given."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as fault:
        raise TokenError(_damaged(Path(label), fault)) from fault
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    return tokenizer


def _text(token: Any) -> str | None:
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _grown(body: str, config: Mapping[str, Any], add: Sequence[str], label: str) -> tuple[Growth, str]:
    """(the new tokens, tokenizer.json with them). Raises TokenError T222, T235."""
    from tokenizers import AddedToken, Tokenizer

    _parse(body, label)
    tokenizer = Tokenizer.from_str(body)
    tokenizer.add_tokens([AddedToken(**token) for token in _late_tokens(config)])
    known = [text for text in add if tokenizer.token_to_id(text) is not None]
    if known or len(set(add)) < len(add):
        what = f'"{known[0]}" is a token of this model already' if known else "the same token is to be added twice"
        raise TokenError(Problem("T235", what, file=label, fix="leave it out of base.add_tokens"))
    first = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in add])
    ids = [tokenizer.token_to_id(text) for text in add]
    if ids != list(range(first, first + len(add))):
        what = f"the tokenizer numbers new tokens {ids[0]:,} ..., which is not behind its last one, {first - 1:,}"
        raise TokenError(Problem("T235", what, file=label, fix="a base whose tokenizer has no gaps in its numbers"))
    return Growth(tuple(add), first), tokenizer.to_str()


def _listed(path: Path, growth: Growth) -> dict[str, str]:
    """tokenizer_config.json with the new tokens, where it lists those that were added."""
    config = _json(path)
    table = config.get("added_tokens_decoder")
    if not isinstance(table, Mapping):
        return {}
    flags = dict.fromkeys(_FLAGS, False)
    more = {str(growth.first + place): {"content": text, **flags} for place, text in enumerate(growth.tokens)}
    return {path.name: json.dumps({**config, "added_tokens_decoder": {**table, **more}}, indent=2, ensure_ascii=False)}


def _special_words(config: Mapping[str, Any], tokenizer: Tokenizer) -> list[str]:
    """Control tokens that the configuration names, and that tokenizer.json has as ordinary words only."""
    extra = [config.get(name) or () for name in ("extra_special_tokens", "additional_special_tokens")]
    more = [token for tokens in extra for token in (tokens.values() if isinstance(tokens, Mapping) else tokens)]
    texts = [_text(token) for token in (*(config.get(name) for name in NAMES), *more)]
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    return [text for text in texts if text and text not in added and tokenizer.token_to_id(text) is not None]


def _late_tokens(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Added tokens that tokenizer_config.json lists, in the order of their ids; most are in tokenizer.json as well."""
    table = config.get("added_tokens_decoder")
    if not isinstance(table, Mapping):
        return []
    bodies = [body for _, body in sorted(table.items(), key=lambda entry: int(entry[0])) if isinstance(body, Mapping)]
    return [
        {"content": str(body["content"]), **{flag: bool(body[flag]) for flag in _FLAGS if flag in body}}
        for body in bodies
        if "content" in body
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise TokenError(_damaged(path, fault)) from fault


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        body = json.loads(_read(path))
    except ValueError as fault:
        raise TokenError(_damaged(path, fault)) from fault
    if not isinstance(body, dict):
        raise TokenError(_damaged(path, "a JSON object was expected"))
    return body


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    inside = config.get("chat_template")
    found: dict[str, str] = {}
    if isinstance(inside, str):
        found["default"] = inside
    elif isinstance(inside, list):
        found |= {str(entry["name"]): str(entry["template"]) for entry in inside}
    elif isinstance(inside, Mapping):
        found |= {str(name): str(text) for name, text in inside.items()}
    for path in sorted(folder.glob("additional_chat_templates/*.jinja")):
        found[path.stem] = _read(path)
    beside = _json(folder / "chat_template.json").get("chat_template")
    if isinstance(beside, str):
        found["default"] = beside
    alone = folder / "chat_template.jinja"
    if alone.is_file():
        found["default"] = _read(alone)
    return found


def _no_tokenizer(folder: Path) -> Problem:
    slow = [name for name in _SLOW_FILES if (folder / name).is_file()]
    if not slow:
        fix = "copy tokenizer.json and tokenizer_config.json of the model here"
        return Problem("T221", "there is no tokenizer.json", file=str(folder), fix=fix)
    load = f"AutoTokenizer.from_pretrained('{folder}')"
    command = f'python -c "from transformers import AutoTokenizer; {load}.save_pretrained({str(folder)!r})"'
    what = f"the tokenizer is only there as {slow[0]}; tokenizer.json is needed"
    return Problem("T221", what, file=str(folder), fix=f"convert it once: {command}")


def _damaged(path: Path, fault: object) -> Problem:
    fix = "copy it again from the model's source"
    return Problem("T222", f"the file cannot be read: {fault}", file=str(path), fix=fix)
