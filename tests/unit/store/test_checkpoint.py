from __future__ import annotations

import json
import os
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sartor.errors import RunError, SartorError
from sartor.events import Noted
from sartor.protocols import Saver
from sartor.store import atomic
from sartor.store.checkpoint import Checkpoints


def writers(step: int, seed: int = 0) -> dict[str, Saver]:
    chance = random.Random(step * 1000 + seed)

    def folder(path: Path) -> None:
        path.mkdir()
        (path / "adapter_model.safetensors").write_bytes(chance.randbytes(900))
        (path / "adapter_config.json").write_text(json.dumps({"step": step}))

    return {
        "optimizer.safetensors": lambda path: path.write_bytes(chance.randbytes(700)) and None,
        "state.json": lambda path: path.write_text(json.dumps({"step": step, "loss": 1.5})) and None,
        "adapter": folder,
    }


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(folder: Path, notes: list[Noted] | None = None) -> Checkpoints:
    return Checkpoints(folder, (notes if notes is not None else []).append, owner="this run")


def test_nothing_was_ever_saved(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path / "checkpoints")
    assert checkpoints.newest() is None
    assert checkpoints.best() is None


def test_names_and_order_are_those_of_the_steps(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    for step in (999_999, 400, 1_000_000):
        path = checkpoints.save(step, writers(step), keep=9)
        os.utime(path, (1e9 - step, 1e9 - step))
    assert checkpoints.steps() == [400, 999_999, 1_000_000]
    assert checkpoints.path(400).name == "step-000400"
    assert checkpoints.newest() == tmp_path / "step-1000000"


def test_rotation_keeps_the_best_and_the_newest(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    seen = []
    for step in range(1, 7):
        checkpoints.save(step, writers(step), keep=1)
        if step in (1, 4):
            checkpoints.mark_best(step)
        seen.append(checkpoints.steps())
    assert seen == [[1], [1, 2], [1, 3], [1, 4], [4, 5], [4, 6]]
    assert checkpoints.best() == checkpoints.path(4)


def test_without_a_best_one_there_is_still_one_to_fall_back_on(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    for step in range(1, 6):
        checkpoints.save(step, writers(step), keep=2)
    assert checkpoints.steps() == [3, 4, 5]
    with pytest.raises(ValueError, match="at least 1"):
        checkpoints.save(6, writers(6), keep=0)


def test_a_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    checkpoints.save(1, writers(1), keep=1)
    before = content(checkpoints.path(1))
    checkpoints.save(1, writers(1, seed=1), keep=1)
    assert content(checkpoints.path(1)) != before
    assert checkpoints.newest() == checkpoints.path(1)


def test_best_must_have_been_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint of step 7"):
        opened(tmp_path).mark_best(7)


def flip(newest: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
    spoilt = bytearray(path.read_bytes())
    spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    path.write_bytes(spoilt)


def cut(newest: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
    os.truncate(path, chance.randrange(path.stat().st_size))


def zero(newest: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
    path.write_bytes(bytes(path.stat().st_size))


def delete(newest: Path, chance: random.Random) -> None:
    path = chance.choice(sorted(newest.rglob("*")))
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def grow(newest: Path, chance: random.Random) -> None:
    path = chance.choice([newest / "optimizer.safetensors", newest / "state.json"])
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randint(1, 9)))


def extra(newest: Path, chance: random.Random) -> None:
    chance.choice([newest, newest / "adapter"]).joinpath(f"extra-{chance.randrange(99)}").write_bytes(b"")


def swap_inside(newest: Path, chance: random.Random) -> None:
    one, other = chance.sample(sorted(path for path in newest.rglob("*") if path.is_file()), 2)
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def swap_with_earlier(newest: Path, chance: random.Random) -> None:
    name = chance.choice(["optimizer.safetensors", "state.json", "adapter/adapter_model.safetensors", "COMPLETE"])
    shutil.copy(newest.parent / "step-000001" / name, newest / name)


def swap_whole(newest: Path, chance: random.Random) -> None:
    shutil.rmtree(newest)
    shutil.copytree(newest.parent / "step-000001", newest)


def swap_between_runs(newest: Path, chance: random.Random) -> None:
    other = Checkpoints(newest.parents[1] / "other", lambda note: None, owner="another run")
    same = other.save(2, writers(2), keep=1)
    if chance.random() < 0.5:
        shutil.copy(same / "COMPLETE", newest / "COMPLETE")
    else:
        shutil.rmtree(newest)
        same.rename(newest)


DAMAGES: list[tuple[Callable[[Path, random.Random], None], int]] = [
    (flip, 80), (cut, 30), (zero, 15), (delete, 20), (grow, 10), (extra, 10), (swap_inside, 15), (swap_with_earlier, 10),
    (swap_whole, 2), (swap_between_runs, 8),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "times"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_every_damage_is_found_named_and_stepped_around(
    tmp_path: Path, damage: Callable[[Path, random.Random], None], times: int
) -> None:
    good = tmp_path / "good"
    for step in (1, 2):
        opened(good).save(step, writers(step), keep=1)
    first = content(good / "step-000001")
    for number in range(times):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(good, folder)
        damage(folder / "step-000002", random.Random(number))
        notes: list[Noted] = []
        assert opened(folder, notes).newest() == folder / "step-000001", number
        (note,) = notes
        assert (note.level, note.code, note.step) == ("warning", "F111", 2)
        assert note.message.startswith("checkpoint step-000002 is damaged: ")
        assert content(folder / "step-000001") == first
        assert sorted(path.name for path in folder.iterdir()) == [".corrupt-step-000002", "step-000001"]


def test_when_all_are_damaged_training_does_not_start_over(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    checkpoints = opened(folder)
    for step in (1, 2):
        checkpoints.save(step, writers(step), keep=1)
        (checkpoints.path(step) / "state.json").unlink()
    for _ in range(2):  # the second time nothing but the set aside ones is left
        with pytest.raises(RunError) as caught:
            opened(folder).newest()
        assert caught.value.problems[0].code == "F110"
        assert caught.value.exit_code == 2
    opened(folder).clear()
    assert opened(folder).newest() is None


def test_a_step_that_is_damaged_twice_is_set_aside_twice(tmp_path: Path) -> None:
    for _ in range(2):
        checkpoints = opened(tmp_path)
        checkpoints.save(1, writers(1), keep=1)
        checkpoints.save(2, writers(2), keep=1)
        (checkpoints.path(2) / "state.json").unlink()
        assert checkpoints.newest() == checkpoints.path(1)
    aside = sorted(path.name for path in tmp_path.glob(".corrupt-*"))
    assert aside == [".corrupt-step-000002", ".corrupt-step-000002-2"]


@pytest.mark.parametrize("spoil", [b"", b"{}", b"step-000001", b'{"checkpoint": "../x", "sha256": "0"}', None])
def test_a_mark_that_leads_nowhere_is_removed_and_noted(tmp_path: Path, spoil: bytes | None) -> None:
    notes: list[Noted] = []
    checkpoints = opened(tmp_path, notes)
    for step in (1, 2):
        checkpoints.save(step, writers(step), keep=1)
    checkpoints.mark_best(1)
    mark = tmp_path / "best"
    mark.write_bytes(mark.read_bytes().replace(b"step-000001", b"step-000002") if spoil is None else spoil)
    assert checkpoints.newest() == checkpoints.path(2)
    assert [note.code for note in notes] == ["F112"]
    assert not mark.exists()


def test_a_damaged_best_one_is_set_aside(tmp_path: Path) -> None:
    notes: list[Noted] = []
    checkpoints = opened(tmp_path, notes)
    for step in (1, 2):
        checkpoints.save(step, writers(step), keep=1)
        if step == 1:
            checkpoints.mark_best(1)
    (checkpoints.path(1) / "state.json").write_bytes(b"")
    assert checkpoints.best() is None
    assert [note.code for note in notes] == ["F111", "F112"]
    assert checkpoints.newest() == checkpoints.path(2)


def test_a_lack_of_file_handles_is_not_taken_for_damage(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    checkpoints.save(1, writers(1), keep=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(number) for number in os.listdir("/proc/self/fd"))
    held = [os.open(tmp_path, os.O_RDONLY) for _ in range(highest)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
    try:
        with pytest.raises(SartorError, match="F131"):
            checkpoints.newest()
        with pytest.raises(SartorError, match="F131"):
            atomic.verify(checkpoints.path(1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in held:
            os.close(handle)
    assert checkpoints.newest() == checkpoints.path(1)
