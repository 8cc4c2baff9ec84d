"""Starts programs in cells (`_cell.py`) and says how they ended."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sartor.errors import Problem, RecipeError

CELL = Path(__file__).with_name("_cell.py")
FLAGS = ("-s", "-S", "-P", "-B", "-X", "utf8")
"""No packages but the standard library, no folder of ours on the path, no byte code written."""
PATIENCE = 2
"""Times the CPU seconds that a program may take on the clock, so that a busy machine judges alike."""
TAIL = 4096
"""Bytes of what it said last that are read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use."""

    seconds: int
    megabytes: int
    may_exit: bool = False
    """Whether a program that ends itself with code 0 has come to its end."""


def run_all(programs: Sequence[str], limits: Limits) -> list[str]:
    """How each program ended: "" where it came to its end, otherwise what stopped it. As many at a time as there are cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(partial(run, limits=limits), programs))


def run(program: str, limits: Limits) -> str:
    """How one program ended, as in `run_all`."""
    finished = 100 + secrets.randbelow(100)
    with tempfile.TemporaryDirectory(prefix="sartor-cell-") as folder, tempfile.TemporaryFile() as said:
        (Path(folder) / "program.py").write_text(program, encoding="utf-8", errors="surrogatepass")
        arguments = ["program.py", str(finished), str(limits.seconds), str(limits.megabytes)]
        process = subprocess.Popen(  # noqa: S603 - Python itself, locked in before it reads the program
            [sys.executable, *FLAGS, str(CELL), *arguments],
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=PATIENCE * limits.seconds + 1)
        except subprocess.TimeoutExpired:
            return f"took more than {PATIENCE * limits.seconds + 1} s"
        finally:
            process.kill()
            process.wait()
        if code == finished or (code == 0 and limits.may_exit):
            return ""
        said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL))
        return _told(code, said.read().decode("utf-8", errors="replace"), limits)


def _told(code: int, said: str, limits: Limits) -> str:
    lines = said.strip().splitlines()
    if code == -signal.SIGKILL or code == -signal.SIGXCPU:
        return f"took more than {limits.seconds} s of CPU time"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    if lines and code == 1:
        return lines[-1].strip()
    return f"ended by itself with code {code}, before its last line"


def require() -> None:
    """Raises RecipeError E109 where a program cannot be locked in on this machine."""
    said = run("", Limits(10, 256)) if sys.platform == "linux" else f"this is {sys.platform}"
    if said:
        what = f"answers cannot be run here, because they cannot be locked in: {said}"
        fix = "Linux 5.13 or later on x86_64 or aarch64, with Landlock and seccomp"
        raise RecipeError(Problem("E109", what, fix=fix))
