from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sartor
from sartor.store import environment
from sartor.store.cgroup import Limits


def test_facts_are_json_and_need_no_heavy_library() -> None:
    code = (
        "import json, sys; from sartor.store import checkpoint, environment, fingerprint, run; "
        "facts = environment.facts(); "
        "print(json.dumps([facts, [name for name in ('torch', 'transformers', 'numpy') if name in sys.modules]]))"
    )
    source = {**os.environ, "PYTHONPATH": str(Path(sartor.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=source)
    facts, loaded = json.loads(done.stdout)
    assert loaded == []
    assert facts["sartor"]["version"] == sartor.__version__
    assert facts["libraries"]["torch"]
    assert facts["python"].startswith("3.")
    assert facts["gpus"] == []
    assert facts["memory_bytes"] > 1 << 28


def test_a_library_that_is_absent_has_no_version() -> None:
    assert environment.versions(["no-such-distribution"]) == {"no-such-distribution": None}


def test_cores_respect_the_affinity() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert environment.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (None, 4), (2.5, 2)])
def test_cores_and_memory_respect_the_control_group(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(environment, "limits", lambda: Limits(1_000_000, 500_000, quota))
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert environment.cores() == cores
    assert environment.memory() == 1_000_000


@pytest.mark.parametrize(("inside", "expected"), [("src", "abc"), ("site-packages", None)])
def test_the_revision_is_that_of_our_own_checkout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, expected: str | None
) -> None:
    """Installed into somebody's project, their commit is not ours."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(environment.sartor, "__file__", str(tmp_path / inside / "sartor" / "__init__.py"))
    monkeypatch.setattr(environment, "_git", lambda root, *arguments: "abc" if arguments[0] == "rev-parse" else "")
    assert environment.revision() == expected
