from __future__ import annotations

from pathlib import Path

from sartor.evaluate.answer_cache import AnswerCache, model_key

PROMPT = (1, 2, 3)


def test_answers_are_known_again_and_only_where_all_is_the_same(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, "a" * 64)
    assert cache.get(PROMPT, 8) is None
    cache.put({PROMPT: ("yes\nno", True), (1, 23): ("", False)}, 8)
    again = AnswerCache(tmp_path, "a" * 64)
    assert again.get(PROMPT, 8) == ("yes\nno", True)
    assert again.get((1, 23), 8) == ("", False)
    assert again.get((12, 3), 8) is None
    assert again.get(PROMPT, 9) is None
    assert AnswerCache(tmp_path, "b" * 64).get(PROMPT, 8) is None
    assert (again.found, again.damaged) == (2, 0)


def test_damaged_lines_are_left_out_and_the_next_is_whole(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, "a" * 64)
    cache.put({PROMPT: ("yes", True), (4,): ("no", True), (5,): ("torn", True)}, 8)
    (file,) = tmp_path.rglob("*.jsonl")
    text = file.read_text().replace('"no"', '"ON"')
    file.write_text(text[:-20])
    damaged = AnswerCache(tmp_path, "a" * 64)
    assert (damaged.damaged, damaged.get(PROMPT, 8), damaged.get((4,), 8), damaged.get((5,), 8)) == (
        2,
        ("yes", True),
        None,
        None,
    )
    damaged.put({(4,): ("no", True)}, 8)
    assert AnswerCache(tmp_path, "a" * 64).get((4,), 8) == ("no", True)


def test_a_model_is_known_by_its_bytes_and_how_it_is_asked(tmp_path: Path) -> None:
    keys = []
    for content, how in ((b"one", "float32"), (b"two", "float32"), (b"two", "bfloat16"), (b"two", "bfloat16")):
        (tmp_path / "model.safetensors").write_bytes(content)
        keys.append(model_key([tmp_path], dtype=how))
    assert len(set(keys)) == 3
    assert keys[2] == keys[3]
