"""Distributions of rows, and the page that shows them."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.page import embedded, page
from sartor.data.profile import Histogram, Profile, profile
from sartor.data.rows import Example, Message, Origin, Row, Text
from sartor.data.split import undivided
from sartor.data.topics import topics

THEMES = {
    "card": ["card", "lost", "stolen", "blocked", "pin", "number", "magnetic", "strip", "terminal"],
    "garden": ["garden", "flowers", "seeds", "watering", "roses", "lawn", "mower", "spring", "hedge"],
    "music": ["guitar", "concert", "melody", "rhythm", "violin", "orchestra", "singer", "album", "stage"],
}


def talk(prompt: str, answer: str, line: int, label: str | None = None) -> Example:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Example(origin=Origin("a.jsonl", line), messages=turns, label=label)


def made(rows: Sequence[Row], folder: Path) -> Profile:
    dataset = Dataset.write(rows, folder)
    return profile(dataset, undivided(dataset, 0.8))


def themed(count: int) -> list[tuple[str, str]]:
    source = random.Random(1)
    return [
        (theme, f"{' '.join(source.choices(THEMES[theme], k=7))} {index}")
        for index in range(count)
        for theme in [list(THEMES)[index % 3]]
    ]


@pytest.mark.parametrize("values", [[3], [0, 0, 0], [1, 2, 2, 3], [5] * 50 + [4000], list(range(300)), [0.2, 0.9, 1.4]])
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    told = Histogram.of(np.array(values), "words")
    assert told is not None
    assert sum(told.counts) == len(values)
    assert len(told.edges) == len(told.counts) + 1
    assert list(told.edges) == sorted(set(told.edges))
    assert (told.smallest, told.largest) == (min(values), max(values))
    assert told.median == pytest.approx(float(np.median(values)))
    expected, _ = np.histogram(values, told.edges)
    assert list(told.counts) == expected.tolist()


def test_no_values_have_no_histogram() -> None:
    assert Histogram.of(np.zeros(0), "words") is None


def test_topics_are_the_themes_the_texts_were_made_of() -> None:
    made = themed(360)
    found = topics([text for _, text in made])
    themes = [{made[at][0] for at in topic.members} for topic in found]
    assert all(len(theme) == 1 for theme in themes)
    assert set.union(*themes) == set(THEMES)
    for topic in found:
        assert set(topic.words) <= set(THEMES[made[topic.members[0]][0]])
    again = topics([text for _, text in made])
    assert [topic.words for topic in again] == [topic.words for topic in found]
    assert topics(["few words"] * 5) == []


def test_a_profile_counts_what_is_there(tmp_path: Path) -> None:
    rows = [
        talk(text, f"{theme} is what it is about, I think.", at, theme) for at, (theme, text) in enumerate(themed(240))
    ]
    rows += [talk("card lost", "card", 1000, "card"), talk("card lost", "card", 1001, "card")]
    told = made(rows, tmp_path).json()
    assert told["rows"] == 242
    assert dict(told["labels"]) == {"card": 82, "garden": 80, "music": 80}
    assert told["lengths"]["prompt"]["median"] == 8
    assert sum(told["lengths"]["prompt"]["counts"]) == 242
    assert told["copies"]["rows"] >= 1
    assert told["label_accuracy"] > 0.9
    assert told["sampled"] == 242
    assert json.loads(json.dumps(told, allow_nan=False)) is not None


def test_raw_texts_have_one_length(tmp_path: Path) -> None:
    told = made([Text(origin=Origin("a.txt", at), text="one two three " * at) for at in range(1, 30)], tmp_path)
    assert list(told.lengths) == ["text"]
    assert told.lengths["text"].largest == 87
    assert told.quality["repetition"] > 0
    assert list(told.with_lengths("tokens", np.arange(5), "tokens").lengths) == ["text", "tokens"]


def test_the_page_holds_what_it_was_given_and_nothing_can_break_out() -> None:
    evil = "</script><script>alert(1)</script> &amp; <!-- \u2028 😀 \ud800"
    text = page({"files": [{"path": evil}], "none": None})
    inside = re.findall(r'<script type="application/json" id="body">(.*?)</script>', text, re.DOTALL)
    assert json.loads(inside[0])["files"][0]["path"] == evil
    assert text.count("<script") == 2
    assert "alert" not in text.replace(inside[0], "")
    assert "</script>" not in embedded({"a": evil})


def test_the_policy_names_the_only_script_and_style_and_no_network() -> None:
    text = page({})
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|https?://(?!www\.w3\.org)", script
    )
