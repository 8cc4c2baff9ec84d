"""Answers that are programs: what runs, what does not, and what a program cannot do."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import measured
import pytest

from sartor.errors import InputError, RecipeError
from sartor.metrics import _cell, _sandbox
from sartor.metrics._sandbox import Limits, require, run
from sartor.metrics.code_runs import Options, metric, program
from sartor.protocols import Detailed, Outcome

LIMITS = Limits(5, 256)
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+)\s+(\d+)"),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
}


@pytest.fixture(autouse=True, scope="module")
def locked() -> None:
    try:
        require()
    except RecipeError as error:
        pytest.skip(str(error))


def outcome(prediction: str, **columns: str) -> Outcome:
    return Outcome("1", "", "", prediction, columns=columns)


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "",
        "if __name__ != '__main__': raise SystemExit(1)",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import asyncio\nasync def f(): await asyncio.sleep(0.001)\nasyncio.run(f())",
        "import collections, dataclasses, decimal, json, math, re, sqlite3, statistics, typing, unittest",
        "import os; assert set(os.environ) <= {'PYTHONHASHSEED', 'LC_CTYPE'}",
        "import sys; assert len(sys.argv) == 1 and not any('sartor' in path for path in sys.path)",
        "import os; assert os.listdir() == ['program.py']",
        "for i in range(20_000): print('x' * 100)",
    ],
)
def test_ordinary_programs_run(source: str) -> None:
    assert run(source, LIMITS) == ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("x = 'a' * 10**9", "MemoryError"),
        ("import os; os._exit(0)", "ended by itself with code 0, before its last line"),
        ("import sys; sys.exit(3)", "ended by itself with code 3, before its last line"),
        ("import ctypes; ctypes.string_at(0)", "was ended by SIGSEGV"),
        ("input()", "EOFError: EOF when reading a line"),
        ("import numpy", "ModuleNotFoundError: No module named 'numpy'"),
        ("import sartor", "ModuleNotFoundError: No module named 'sartor'"),
    ],
)
def test_others_say_what_stopped_them(source: str, said: str) -> None:
    assert run(source, LIMITS) == said


@pytest.mark.parametrize(
    "source",
    [
        "import socket; socket.socket()",
        "import socket; socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.socket(2, 1, 0) >= 0 or exit(1)",
        "import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall(425, 1, 0) >= 0 or exit(1)",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 0)",
        "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "open('new', 'w')",
        "open('program.py', 'a')",
        "import os; os.open('program.py', os.O_RDONLY | os.O_TRUNC)",
        "import os; os.remove('program.py')",
        "import os; os.mkdir('new')",
        "import os; os.chmod('program.py', 0o777)",
        "open('/etc/hostname').read()",
        "open('/proc/self/environ').read()",
        f"open({str(Path(__file__))!r}).read()",
        f"import os; os.listdir({str(Path.home())!r})",
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (999, 999))",
        "import os; os.setuid(1)",
    ],
)
def test_a_program_can_do_no_harm(source: str) -> None:
    """Each fails although the same line outside of a cell, for most of them, does not."""
    said = run(source, LIMITS)
    assert said
    assert re.match(
        r"PermissionError|BlockingIOError|ValueError: not allowed|ended by itself with code 1|OSError", said
    ), said


def test_time_is_limited() -> None:
    began = time.monotonic()
    assert run("while True: pass", Limits(1, 256)).startswith("took more than ")
    assert run("import time; time.sleep(60)", Limits(1, 256)) == "took more than 3 s"
    assert time.monotonic() - began < 20


def test_a_flood_of_words_is_cut_off() -> None:
    assert run("import sys\nwhile True: sys.stderr.write('x' * 1000)", LIMITS)


def test_results_do_not_depend_on_the_seed_of_hashes() -> None:
    assert len({run("raise ValueError(hash('a'))", LIMITS) for _ in range(2)}) == 1


def test_nothing_runs_unless_the_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sandbox.subprocess, "Popen", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(RecipeError, match="E108"):
        metric(Options(), Path())
    with pytest.raises(RecipeError, match="E108"):
        measured.made("code_runs", {})


def test_a_machine_that_cannot_lock_in_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(RecipeError, match="E109"):
        metric(Options(allow_execution=True), Path())


def test_other_machines_have_no_filter() -> None:
    assert len(_cell.filter_of("aarch64")) > 100
    with pytest.raises(KeyError):
        _cell.filter_of("riscv64")


@pytest.mark.parametrize(("place", "machine"), list(enumerate(HEADERS)))
def test_numbers_of_system_calls_are_those_of_the_kernel(place: int, machine: str) -> None:
    path, pattern = HEADERS[machine]
    if not path.exists():
        pytest.skip(f"{path} is not there")
    numbers = {name: int(number) for name, number in re.findall(pattern, path.read_text())}
    numbers.setdefault("newfstatat", numbers.get("fstatat", -1))
    some = {"open": _cell.OPEN, "openat": _cell.OPENAT, "ioctl": _cell.IOCTL, "fcntl": _cell.FCNTL, "clone": _cell.CLONE,
            "clone3": _cell.CLONE3, "prlimit64": _cell.PRLIMIT, "socketpair": _cell.SOCKETPAIR}  # fmt: skip
    for name, listed in {**_cell.SYSTEM_CALLS, **some}.items():
        assert listed[place] == numbers.get(name), name


def test_the_program_is_the_first_fenced_block_or_everything() -> None:
    assert program(outcome("Here:\n```python\nx = 1\n```\nand\n```\ny\n```"), None) == "x = 1\n"
    assert program(outcome("```\nx = 1\n```"), None) == "x = 1\n"
    assert program(outcome("x = 1"), None) == "x = 1"
    assert program(outcome("x = 1", check="assert x"), "check") == "x = 1\n\nassert x\n"
    with pytest.raises(InputError, match="E110"):
        program(outcome("x = 1"), "check")


def test_tests_decide_and_have_to_be_reached() -> None:
    judge = measured.made("code_runs", {"allow_execution": True, "tests": "check"})
    check = "assert add(1, 2) == 3"
    answers = ["def add(a, b): return a + b", "def add(a, b): return a - b", "def add(a, b): exit(0)", "exit(0)"]
    rows = [outcome(answer, check=check) for answer in answers]
    assert judge.stats(rows)[:, 0].tolist() == [1, 0, 0, 0]
    assert isinstance(judge, Detailed)
    (table,) = judge.details(rows, 0.95)
    assert table.rows[0][1] == "AssertionError"


def test_without_tests_a_program_may_end_itself() -> None:
    judge = measured.made("code_runs", {"allow_execution": True})
    rows = [outcome(answer) for answer in ("import sys; sys.exit(0)", "import sys; sys.exit(1)", "x = 1")]
    assert judge.stats(rows)[:, 0].tolist() == [1, 0, 1]


def test_the_same_program_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = measured.made("code_runs", {"allow_execution": True})
    rows = [outcome("x = 1"), outcome("x = 1"), outcome("1/0")]
    first = judge.stats(rows).tolist()
    monkeypatch.setattr(_sandbox.subprocess, "Popen", lambda *a, **k: pytest.fail("it ran again"))
    assert judge.stats(rows).tolist() == first
