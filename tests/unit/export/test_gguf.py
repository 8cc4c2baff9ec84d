"""GGUF: every type of numbers, both kinds of tokenizers, the Modelfile, and faults planted in the file."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import exported
import job
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from sartor.errors import ModelError
from sartor.export.gguf import file, modelfile
from sartor.export.gguf.architectures import ARCHITECTURES
from sartor.export.gguf.tokens import words

pytestmark = pytest.mark.skipif(find_spec("gguf") is None, reason="gguf is not installed (extra gguf)")
LLAMA = find_spec("llama_cpp") is not None
"""Whether faults that only computing shows can be seen."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("gguf") / "base")


@pytest.fixture(scope="module")
def tuned(base: Path) -> exported.Subject:
    return exported.subject(exported.adapter(base, base.with_name("tuned")))


def of_pieces(folder: Path, architecture: str = "llama") -> Path:
    """A model whose tokenizer is as SentencePiece makes them: characters, merges by rank, bytes for the rest."""
    job.save_model(folder, architecture)
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    letters = sorted({letter for row in job.orders() for text in row.values() for letter in text if letter.isalnum()})
    vocabulary = {
        token: place for place, token in enumerate([*special, *(f"<0x{n:02X}>" for n in range(256)), "▁", *letters])
    }
    merges: list[tuple[str, str]] = []
    for word in (
        *(f"▁{letter}" for letter in letters[10:40]),
        "re",
        "red",
        "▁re",
        "to",
        "▁to",
        "la",
        "lam",
        "lamp",
        "▁lamp",
    ):
        vocabulary.setdefault(word, len(vocabulary))
        splits = [(word[:at], word[at:]) for at in range(1, len(word))]
        merges += [pair for pair in splits if all(part in vocabulary for part in pair)]
    model = models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    assert len(vocabulary) <= job.VOCABULARY
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + job.CHATML)
    return folder


@pytest.mark.parametrize("quantize", ["f32", "f16", "bf16", "q8_0", "q5_0", "q4_0"])
def test_every_type_of_numbers(tuned: exported.Subject, quantize: str, tmp_path: Path) -> None:
    folder = exported.made("gguf", tuned, tmp_path / "out", quantize=quantize)
    found = exported.certified("gguf", tuned, folder, quantize=quantize)
    assert found.passed, found.markdown()


def test_a_tokenizer_of_pieces(tmp_path: Path) -> None:
    given = exported.subject(of_pieces(tmp_path / "pieces"))
    folder = exported.made("gguf", given, tmp_path / "out", quantize="f32")
    settings, _ = file.read(folder / "model.gguf")
    assert settings["tokenizer.ggml.model"] == "llama"
    assert settings["tokenizer.ggml.add_bos_token"] is True
    found = exported.certified("gguf", given, folder, quantize="f32")
    assert found.passed, found.markdown()


def test_merges_that_llama_cpp_would_not_follow_are_refused(tmp_path: Path) -> None:
    folder = of_pieces(tmp_path / "pieces")

    def without_red(body: dict) -> dict:
        body["model"]["merges"] = [merge for merge in body["model"]["merges"] if "".join(merge) != "red"]
        return body

    exported.spoil(folder / "tokenizer.json", without_red)
    with pytest.raises(ModelError, match="never joins 're' and 'd'"):
        exported.made("gguf", exported.subject(folder), tmp_path / "out")


@pytest.mark.skipif(not LLAMA, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, "prompt"),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.merges": ["a b"]}, "prompt"),
        ({"tokenizer.chat_template": "{{ messages[0].content }}"}, "prompt"),
        ({"tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.tokens": None}, "stop tokens"),
    ],
)
def test_planted_settings_are_seen(
    tuned: exported.Subject, change: dict, check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the settings would see each of these; here llama.cpp itself has to."""
    from sartor.export.exporters import gguf

    honest = gguf._settings

    def planted(*given):
        settings = honest(*given) | {key: value for key, value in change.items() if value is not None}
        if "tokenizer.ggml.tokens" in change:
            settings["tokenizer.ggml.tokens"] = [
                re.sub("im_end", "over", word) for word in settings["tokenizer.ggml.tokens"]
            ]
        return settings

    monkeypatch.setattr(gguf, "_settings", planted)
    folder = exported.made("gguf", tuned, tmp_path / "out", quantize="f32")
    assert check in exported.failing(exported.certified("gguf", tuned, folder, quantize="f32"))


def test_settings_are_read_back(tuned: exported.Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sartor.export.exporters import gguf

    honest = gguf._settings
    with monkeypatch.context() as patched:
        patched.setattr(gguf, "_settings", lambda *given: honest(*given) | {"tokenizer.ggml.bos_token_id": 7})
        folder = exported.made("gguf", tuned, tmp_path / "out")
    (_, settings) = gguf.inspect(tuned.source, folder, gguf.Options())
    assert settings.passed is False
    assert "bos_token_id" in settings.why


@pytest.mark.parametrize("missing", [1, 5000, 60_000])
def test_a_truncated_file_is_seen(tuned: exported.Subject, missing: int, tmp_path: Path) -> None:
    folder = exported.made("gguf", tuned, tmp_path / "out")
    path = folder / "model.gguf"
    path.write_bytes(path.read_bytes()[:-missing])
    assert {"file", "tensors", "opens"} & exported.failing(exported.certified("gguf", tuned, folder))


def test_a_swapped_adapter_is_seen(base: Path, tuned: exported.Subject, tmp_path: Path) -> None:
    other = exported.subject(exported.adapter(base, tmp_path / "other", seed=9))
    folder = exported.made("gguf", other, tmp_path / "out")
    failed = exported.failing(exported.certified("gguf", tuned, folder))
    assert "tensors" in failed
    assert not LLAMA or "logits" in failed


def test_an_unknown_architecture_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    from sartor.models.hf import random_causal

    folder = tmp_path / "olmo"
    made = {"model_type": "olmo2", "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512}  # fmt: skip
    random_causal(made, seed=0).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((base / name).read_bytes())
    with pytest.raises(ModelError, match=r"M201.*olmo2.*llama"):
        exported.made("gguf", exported.subject(folder), tmp_path / "out")


def test_tags_of_training_are_no_part_of_the_template(base: Path, tmp_path: Path) -> None:
    tagged = job.CHATML.replace("{{ message.content }}", "{% generation %}{{ message.content }}{%- endgeneration -%}")
    given = exported.subject(job.save_model(tmp_path / "tagged", template=tagged))
    told = words(given.source.renderer, job.VOCABULARY).settings["chat_template"]
    assert "generation %}" not in told.replace("add_generation_prompt", "")


def test_a_modelfile_writes_turns_as_the_template_does(tuned: exported.Subject) -> None:
    renderer = tuned.source.renderer
    told = modelfile.modelfile(renderer, "model.gguf", context=512)
    assert 'PARAMETER stop "<|im_end|>"' in told
    body = told.partition('TEMPLATE """')[2].removesuffix('"""\n')
    frames = dict(re.findall(r'\.Role "(\w+)" \}\}(.*?)\{\{ (?:else|end)', body, re.DOTALL))
    turns = [("system", "be brief"), ("user", "hello"), ("assistant", "yes?"), ("user", "why")]
    ours = (
        "".join(frames[role].replace("{{ .Content }}", text) for role, text in turns) + body.rpartition("{{ end }}")[2]
    )
    wanted = renderer.template.render([{"role": role, "content": text} for role, text in turns], generation=True)
    assert ours == wanted


def test_scales_of_attention_are_folded(tmp_path: Path) -> None:
    """Gemma's scale is wired into llama.cpp; another one is folded into what queries are multiplied by."""
    for scalar in (8, 64):
        folder = job.save_model(tmp_path / f"gemma-{scalar}", "gemma3")
        exported.spoil(folder / "config.json", lambda body, scalar=scalar: {**body, "query_pre_attn_scalar": scalar})
        given = exported.subject(folder)
        made = exported.made("gguf", given, tmp_path / f"out-{scalar}", quantize="f32")
        found = exported.certified("gguf", given, made, quantize="f32")
        assert found.passed, found.markdown()
        norm = dict(file.read(made / "model.gguf")[1])["blk.0.attn_q_norm.weight"]
        assert np.allclose(norm, (8 / scalar) ** 0.5)


def test_all_architectures_are_in_the_table() -> None:
    assert {one.name for one in ARCHITECTURES.values()} == {
        "llama",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma3",
        "phi3",
        "gpt2",
    }


@pytest.mark.parametrize("kind", ["qwen2", "gemma", "llama3"])
def test_further_architectures(kind: str, tmp_path: Path) -> None:
    """Those that tests/tiny.py does not have, with what is particular to them."""
    from sartor.models.hf import random_causal

    common = {"vocab_size": job.VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip
    own = {
        "qwen2": {"model_type": "qwen2"},
        "gemma": {"model_type": "gemma"},
        "llama3": {
            "model_type": "llama",
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        },
    }[kind]  # fmt: skip
    folder = job.save_model(tmp_path / kind)
    random_causal({**common, **own, "bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1}, seed=2).save_pretrained(
        folder
    )
    given = exported.subject(folder)
    made = exported.made("gguf", given, tmp_path / "out", quantize="f32")
    found = exported.certified("gguf", given, made, quantize="f32")
    assert found.passed, found.markdown()
