"""Disparities between groups: planted ones are found and evened out, and balanced data stays silent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_ind
from scipy.stats.contingency import relative_risk
from sklearn.utils.class_weight import compute_sample_weight

from sartor.data import terms
from sartor.data.bias.disparity import Disparity, Table, disparities
from sartor.data.bias.mentions import Attribute, Finder
from sartor.data.bias.mitigation import reweighed
from sartor.data.bias.outcomes import refuses, sentiment
from sartor.data.making import Means
from sartor.data.pipeline import Prepared, prepare
from sartor.errors import DataError
from sartor.recipe.schema import Data

GENDER = Attribute("gender", ("female", "male"))
PEOPLE = ("she", "he", "a woman", "a man", "Mary", "Robert", "my sister", "my brother")
PLACES = ("Bern", "Oslo", "Lima", "Cairo", "Quito", "Delhi", "Perth", "Turin", "Kyoto", "Davos")
SKILLS = ("welding", "law", "nursing", "physics", "coding", "driving", "music", "cooking", "sailing", "sewing")


def hiring(seed: int, gap: float, count: int = 400) -> list[dict[str, str]]:
    """Applications; women are hired less often by `gap`."""
    draw = Random(seed)
    made = []
    for number in range(count):
        who = draw.choice(PEOPLE)
        share = 0.5 - gap / 2 if PEOPLE.index(who) % 2 == 0 else 0.5 + gap / 2
        skills = ", ".join(draw.choice(SKILLS) for _ in range(4))
        text = f"{number * 7919 % 9973}: {who} of {draw.choice(PLACES)} offers {skills} for {draw.randrange(99)} francs"
        made.append({"text": text, "label": "hire" if draw.random() < share else "reject"})
    return made


def write(folder: Path, rows: Sequence[dict[str, str]]) -> None:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepared(folder: Path, **more: object) -> Prepared:
    out = folder / f"out-{len(list(folder.iterdir()))}"
    out.mkdir()
    data = Data.model_validate({"sources": ("a.jsonl",), **more})
    return prepare(data, root=folder, folder=out, emit=lambda event: None, means=Means(1))


def told(found: Prepared, code: str) -> list[str]:
    return [problem.what for problem in found.findings.problems if problem.code == code]


def test_a_planted_gap_is_found_and_evened_out(tmp_path: Path) -> None:
    write(tmp_path, hiring(1, 0.4))
    plain = prepared(tmp_path)
    (finding,) = told(plain, "S401")
    assert "gender" in finding
    assert "rows about female" in finding
    assert not told(plain, "S402")
    for how, changes in (
        ("augmentation", {"augment": ("counterfactual",)}),
        ("weighing", {"bias": {"reweigh": "gender"}}),
    ):
        (after,) = told(prepared(tmp_path, **changes), "S402")
        before, now = (float(part.split(" points")[0].split()[-1]) for part in after.split(f"after {how}"))
        assert abs(before) > 25
        assert abs(now) < 3
    balanced = prepared(tmp_path, clean=({"balance_groups": "gender"},))
    assert not told(balanced, "S401")
    cells = {(row.answer_text(), bool(_gender(row.prompt_text()))) for row in balanced.dataset}
    assert len(cells) == 4


def _gender(text: str) -> frozenset[int]:
    (found,) = Finder([each for each in terms.own(["en"]) if each.attribute == "gender"]).mentions(text)
    return found - {1}


def test_no_finding_where_rows_are_few_or_alike(tmp_path: Path) -> None:
    write(tmp_path, hiring(1, 0.9, count=40))
    assert not told(prepared(tmp_path), "S401")


def table(seed: int, gap: float = 0.0, groups: int = 5, rows: int = 600) -> Table:
    """Made-up rows: two attributes, three labels, refusals, sentiment and lengths; `gap` shifts the first group's."""
    draw = np.random.default_rng(seed)
    group = np.stack([draw.integers(-1, 2, rows), draw.integers(-1, groups, rows)]).astype(np.int16)
    shifted = (group[0] == 0) & (draw.random(rows) < gap)
    label = np.where(shifted, 0, draw.integers(0, 3, rows)).astype(np.int32)
    return Table(
        (GENDER, Attribute("origin", tuple("abcdefgh"[:groups]))),
        group,
        label,
        ("yes", "no", "perhaps"),
        draw.random(rows) < 0.1,
        np.where(draw.random(rows) < 0.6, 0, draw.choice([-1.0, -0.5, 0.5, 1.0], rows)),
        np.log1p(draw.geometric(0.05, rows)),
        np.arange(rows),
        np.arange(rows),
    )


@pytest.mark.slow
def test_false_alarms_on_balanced_data_are_as_rare_as_stated() -> None:
    """The level is 5 %. Of these 200 data sets without any difference 11 have a finding (5.5 %), of 2,000 others 4.95 %.

    So 200 draws lie above the level about as often as below; what is refused is a count that 5 % cannot explain.
    """
    alarms = sum(any(each.flagged for each in disparities(table(seed), 0.05)) for seed in range(200))
    assert binomtest(alarms, 200, 0.05, alternative="greater").pvalue > 0.05
    strict = sum(any(each.flagged for each in disparities(table(seed), 0.005)) for seed in range(200))
    assert strict < alarms
    assert sum(any(each.flagged for each in disparities(table(seed, gap=0.4))) for seed in range(20)) == 20


def test_comparisons_are_judged_together() -> None:
    found = disparities(table(3))
    p = np.sort([each.p for each in found])
    reference = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    assert np.sort([each.q for each in found]) == pytest.approx(np.minimum(reference, 1))
    assert len(found) == (1 + 5) * (3 + 3)


def one(label: Sequence[int], group: Sequence[int], unit: Sequence[int] | None = None) -> Table:
    count = len(label)
    nothing: NDArray[np.float64] = np.zeros(count)
    return Table(
        (GENDER,), np.array([group], np.int16), np.array(label, np.int32), ("yes", "no"), np.zeros(count, np.bool_),
        nothing, nothing, np.arange(count) if unit is None else np.array(unit), np.arange(count),
    )  # fmt: skip


def test_shares_have_newcombes_interval() -> None:
    """Newcombe 1998, table II: 56/70 and 48/80, method 10: 0.0524 to 0.3339."""
    label = [0] * 56 + [1] * 14 + [0] * 48 + [1] * 32
    (found,) = disparities(one(label, [0] * 70 + [1] * 80))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert found.difference == pytest.approx(56 / 70 - 48 / 80)
    assert found.here / found.there == pytest.approx(relative_risk(56, 70, 48, 80).relative_risk)


def test_means_have_welchs_interval() -> None:
    draw = np.random.default_rng(1)
    plain = one([0] * 60, [0] * 30 + [1] * 30)
    feeling = np.concatenate([draw.normal(0.5, 0.1, 30), draw.normal(0, 0.4, 30)])
    found = next(
        each
        for each in disparities(
            Table(*(feeling if name == "sentiment" else getattr(plain, name) for name in plain.__slots__))
        )
        if each.outcome == "sentiment"
    )
    wanted = ttest_ind(feeling[:30], feeling[30:], equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert found.flagged


def test_copies_count_once() -> None:
    label, group = [0, 1] * 30, [0] * 30 + [1] * 30
    assert disparities(one(label, group))[0].count == 30
    assert disparities(one(label * 3, group * 3, list(range(60)) * 3))[0].count == 30
    assert not disparities(one(label * 3, group * 3, [0] * 180))


def test_weights_make_label_and_group_independent() -> None:
    draw = np.random.default_rng(2)
    group, label = draw.integers(-1, 2, 900), draw.integers(-1, 2, 900)
    label[(group == 0) & (draw.random(900) < 0.5)] = 0
    made = one(label.tolist(), group.tolist())
    weight = reweighed(made, "gender")
    ours = (group >= 0) & (label >= 0)
    assert (weight[~ours] == 1).all()
    assert weight[ours].sum() == pytest.approx(ours.sum())
    shares = [np.average(label[ours & (group == each)], weights=weight[ours & (group == each)]) for each in (0, 1)]
    assert shares[0] == pytest.approx(shares[1])
    cells = group[ours] * 2 + label[ours]
    balanced = compute_sample_weight("balanced", cells) * 1.0
    margins = np.array(
        [
            (group[ours] == g).mean() * (label[ours] == y).mean() * 4
            for g, y in zip(group[ours], label[ours], strict=True)
        ]
    )
    assert weight[ours] == pytest.approx(balanced * margins)
    with pytest.raises(KeyError):
        reweighed(made, "shoe")


def test_weights_reach_training_and_senseless_ones_are_refused(tmp_path: Path) -> None:
    from sartor.data.bias.audit import weights
    from sartor.recipe.schema import Bias

    write(tmp_path, hiring(1, 0.4))
    found = prepared(tmp_path)
    rows = found.splits.indices("train")
    weight = weights(found.dataset, rows, found.splits, Bias(reweigh="gender"), tmp_path)
    assert weight is not None
    assert len(weight) == len(rows)
    assert weight.min() < 0.8 < 1.2 < weight.max()
    assert weights(found.dataset, rows, found.splits, Bias(), tmp_path) is None
    with pytest.raises(DataError, match=r"S403.*shoe"):
        weights(found.dataset, rows, found.splits, Bias(reweigh="shoe"), tmp_path)
    with pytest.raises(DataError, match=r"S403.*changes nothing"):
        weights(found.dataset, rows, found.splits, Bias(reweigh="religion"), tmp_path)


def test_lists_of_the_user_are_compared_too(tmp_path: Path) -> None:
    rows = [
        {**row, "text": row["text"].replace("she ", "zork ").replace("he ", "blip ")} for row in hiring(1, 0.6, 800)
    ]
    write(tmp_path, rows)
    (tmp_path / "own.yaml").write_text("attribute: planet\nlanguage: en\ngroups: [zork, blip]\nterms: [[zork, blip]]\n")
    assert not any("planet" in what for what in told(prepared(tmp_path), "S401"))
    assert any("planet" in what for what in told(prepared(tmp_path, bias={"terms": "own.yaml"}), "S401"))
    with pytest.raises(DataError, match="D198"):
        prepared(tmp_path, bias={"terms": "nowhere.yaml"})


@pytest.mark.parametrize("each", terms.own(), ids=lambda each: each.file)
def test_one_pass_finds_what_each_list_finds(each: terms.Terms) -> None:
    draw, words = (
        Random(4),
        [word for word in each.members for _ in range(2)] + ["the", "of", "It's", "Mary-Ann", "co-she", "x"],
    )
    (place,) = [n for n, one in enumerate(Finder([each]).attributes) if one.name == each.attribute]
    for _ in range(200):
        text = " ".join(draw.choice(words) + draw.choice(["", ",", "."]) for _ in range(draw.randrange(1, 8)))
        assert Finder([each]).mentions(text)[place] == each.mentions(text), text


@pytest.mark.parametrize(
    ("answer", "is_one"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot assist with this request.", True),
        ("As an AI language model, I am unable to do so.", True),
        ("Unfortunately we are not able to refund it.", True),
        ("Your application has been rejected.", True),
        ("I can't believe how good this is!", False),
        ("Sorry for the delay, your parcel is on its way.", False),
        ("You can help by calling us. I cannot come today.", False),
        ("", False),
    ],
)
def test_refusals(answer: str, is_one: bool) -> None:
    assert refuses(answer) is is_one


def test_sentiment() -> None:
    assert sentiment("A kind and honest man") == 1
    assert sentiment("not a kind man") == -1
    assert sentiment("lazy but clever") == 0
    assert sentiment("a table") == 0


def test_what_is_compared_has_a_key() -> None:
    found: list[Disparity] = disparities(table(1))
    assert len({each.key for each in found}) == len(found)


def test_small_differences_are_not_told() -> None:
    """3 points between 4,000 rows each are sure, and too small to matter."""
    shares = [0] * 2120 + [1] * 1880 + [0] * 2000 + [1] * 2000
    (found,) = disparities(one(shares, [0] * 4000 + [1] * 4000))
    assert found.q < 0.05
    assert not found.flagged
