import json

import pytest
from unit.tokens.families import FAMILIES, write_model

from sartor.errors import TokenError
from sartor.tokens.vocabulary import Vocabulary, check_size


@pytest.mark.parametrize("kind", ["bytes", "fallback", "legacy", "unigram"])
def test_ids_and_texts(model, kind):
    vocabulary = model(kind, "llama3").vocabulary
    text = "The weather in Paris<|eot_id|> is <|begin_of_text|>"
    ids = vocabulary.encode(text, special=True)
    assert ids.count(vocabulary.eos_id) == ids.count(vocabulary.bos_id) == 1
    plain = vocabulary.encode(text, special=False)
    assert not set(plain) & (set(vocabulary.special_tokens.values()) - {vocabulary.unknown_id})
    assert len(plain) > len(ids)
    assert vocabulary.encode_many([text, "yes"], special=False) == [plain, vocabulary.encode("yes", special=False)]
    assert vocabulary.encode_many([text, "yes"], special=True) == [ids, vocabulary.encode("yes", special=True)]
    if kind in ("bytes", "fallback"):  # the others put spaces behind control tokens, or lack letters
        assert vocabulary.decode(ids) == text
        assert vocabulary.decode(plain) == text
        assert vocabulary.decode_many([ids, plain]) == [text, text]
    assert vocabulary.size == max(*ids, *vocabulary.special_tokens.values()) + 1 or vocabulary.size > max(ids)


def test_plain_encoding_is_what_a_vocabulary_without_the_token_gives(model):
    from tokenizers import Tokenizer

    made = model("bytes", "chatml")
    body = json.loads((made.folder / "tokenizer.json").read_text())
    body["added_tokens"] = []
    naked = Tokenizer.from_str(json.dumps(body))
    for text in ("<|im_end|>", "a <|im_end|> b", "\n<|im_start|>user\n", "é<|im_end|><|im_end|>"):
        assert made.vocabulary.encode(text, special=False) == naked.encode(text).ids


@pytest.mark.parametrize("kind", ["bytes", "fallback", "legacy", "unigram"])
def test_the_second_tokenizer_differs_in_nothing_else(kind):
    from tokenizers import AddedToken, Tokenizer
    from unit.tokens.families import _trained

    tokenizer = Tokenizer.from_str(_trained(kind))
    tokenizer.add_tokens(
        [
            AddedToken("<l>", lstrip=True, special=True, normalized=False),
            AddedToken("<r>", rstrip=True, special=True, normalized=False),
            AddedToken("<n>", special=True, normalized=kind != "legacy"),  # T227 refuses that combination
            AddedToken("<word>", special=False),
        ]
    )
    vocabulary = Vocabulary(tokenizer.to_str(), {})
    for text in ("a  <l>  b", "a \n<r> \n b<n> c", "<r><l>", "  <n>  ", "x<word> y <word>", "<r>\n\n<l> the weather"):
        ids, offsets = vocabulary.controls.encode_marked(text)
        (same,) = vocabulary.encodings([text])
        assert (ids, offsets) == (same.ids, same.offsets)


def test_truncation_padding_and_template_of_the_file_do_not_act(tmp_path):
    from tokenizers import Tokenizer, processors

    folder = write_model(tmp_path, "bytes", FAMILIES["llama3"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = Vocabulary.load(folder)
    assert vocabulary.decode(vocabulary.encode("What is the weather?", special=True)) == "What is the weather?"


def test_templates_of_every_kind(tmp_path):
    folder = write_model(tmp_path, "bytes", FAMILIES["chatml"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").unlink()
    assert Vocabulary.load(folder).template is None
    for form, names in (
        ("one", {"default": "one"}),
        (
            [{"name": "default", "template": "two"}, {"name": "tool_use", "template": "t"}],
            {"default": "two", "tool_use": "t"},
        ),
        ({"default": "three"}, {"default": "three"}),
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": form}))
        assert Vocabulary.load(folder).templates == names
    (folder / "chat_template.jinja").write_text("file")
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text("rag")
    vocabulary = Vocabulary.load(folder)
    assert (vocabulary.template, vocabulary.templates["rag"]) == ("file", "rag")
    assert {path.name for path in vocabulary.files} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "rag.jinja",
    }


def test_tokens_that_only_the_config_lists_are_added(tmp_path):
    folder = write_model(tmp_path, "bytes", FAMILIES["chatml"])
    before = Vocabulary.load(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    late = {str(before.size): {"content": "<|late|>", "special": True}}
    config |= {"added_tokens_decoder": late, "pad_token": {"content": "<|late|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    after = Vocabulary.load(folder)
    assert after.encode("a<|late|>", special=True)[-1] == after.pad_id == before.size
    assert after.size == before.size + 1
    assert after.fingerprint != before.fingerprint


def test_control_tokens_that_are_ordinary_words_of_the_file_are_cut_out(tmp_path):
    from transformers import PreTrainedTokenizerFast

    folder = write_model(tmp_path, "fallback", FAMILIES["zephyr"])
    body = json.loads((folder / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in body["added_tokens"]}
    body["model"]["vocab"] |= ids
    body["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(body))
    vocabulary = Vocabulary.load(folder)
    text = "<s>yes</s> no"
    assert vocabulary.encode(text, special=True)[0] == ids["<s>"]
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    assert vocabulary.encode(text, special=True) == theirs.encode(text, add_special_tokens=False)
    assert not {ids["<s>"], ids["</s>"]} & set(vocabulary.encode(text, special=False))


def test_a_folder_without_tokenizer_json_names_the_command(tmp_path):
    with pytest.raises(TokenError, match=r"T221: there is no tokenizer.json"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(TokenError, match=r"tokenizer.model; .*AutoTokenizer.from_pretrained"):
        Vocabulary.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff\xfe"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
        ("chat_template.jinja", b"\xff"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content):
    folder = write_model(tmp_path, "bytes", FAMILIES["chatml"])
    (folder / name).write_bytes(content)
    with pytest.raises(TokenError) as caught:
        Vocabulary.load(folder)
    assert caught.value.problems[0].code == "T222"
    assert caught.value.problems[0].file == str(folder / name)


def test_more_ids_than_embedding_rows(model):
    vocabulary = model("bytes", "chatml").vocabulary
    assert check_size(vocabulary, vocabulary.size, "model") == []
    (problem,) = check_size(vocabulary, vocabulary.size - 1, "model")
    assert (problem.code, f"{vocabulary.size - 1:,}" in problem.what) == ("T220", True)


def test_private_characters_beside_control_tokens_are_refused(model):
    vocabulary = model("bytes", "chatml").vocabulary
    assert vocabulary.decode(vocabulary.encode("a\U000f0001b", special=False)) == "a\U000f0001b"
    for text in ("\U000f0001<|im_end|>", "<|im_end|>\U00100000"):
        with pytest.raises(TokenError, match="T224"):
            vocabulary.encode(text, special=False)


def test_loads_without_torch_or_transformers(model):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from sartor.tokens.vocabulary import Vocabulary; "
        "from sartor.tokens.contract import supervise; from sartor.tokens.template import ChatTemplate; "
        f"v = Vocabulary.load(Path({str(model('bytes', 'chatml').folder)!r})); v.encode('x', special=True); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
