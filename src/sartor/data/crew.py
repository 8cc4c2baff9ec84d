"""Several processes that do pieces of work side by side, each a new interpreter: nothing is forked, and no main module runs again.

A worker reads one JSON object per line, `{"do": "module:function", "given": {...}}`, and answers each with one. It ends when
nobody can ask any more, however that came about.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sartor.errors import Problem, SartorError

QUOTA = Path("/sys/fs/cgroup/cpu.max")
AHEAD = 8
"""Answers for each worker that may wait until it is their turn."""
PATIENCE = 5
"""Seconds that a worker has to end by itself."""


def hands() -> int:
    """Processes worth having: cores this process may use; 1 where processes are not to be had in this way (Windows)."""
    if sys.platform == "win32":
        return 1
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, _, period = QUOTA.read_text(encoding="ascii").partition(" ")
        return max(1, min(own, int(quota) // int(period)))
    except (OSError, ValueError):
        return own


class Crew:
    """`count` processes beside this one. Use it in a `with`; whatever happens, none outlives it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        self._all = [_hired() for _ in range(count)]
        for worker in self._all:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for worker in self._all:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._all:
            for pipe in (worker.stdin, worker.stdout):
                # The other end may be gone.
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            try:
                worker.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def each(
        self, work: Callable[[Mapping[str, Any]], Mapping[str, Any]], given: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        """The answers, in order, to (what it is, in words; what it is given), a few of them ahead of time.

        What the workers have no hand for is done in this process. Raises SartorError P132 for a worker that ended, naming it
        and what it was at.
        """
        waiting: deque[Future[dict[str, Any]]] = deque()
        for what, each in given:
            if sum(not future.done() for future in waiting) < 2 * self.count:
                waiting.append(self.ask(work, what, each))
            else:
                own: Future[dict[str, Any]] = Future()
                own.set_result(dict(work(each)))
                waiting.append(own)
            while waiting and (waiting[0].done() or len(waiting) > AHEAD * self.count):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def ask(
        self, work: Callable[[Mapping[str, Any]], Mapping[str, Any]], what: str, given: Mapping[str, Any]
    ) -> Future[dict[str, Any]]:
        """Have one thing done, as soon as somebody is free."""
        question = json.dumps({"do": f"{work.__module__}:{work.__qualname__}", "given": given})
        return self._threads.submit(self._ask, what, question)

    def _ask(self, what: str, question: str) -> dict[str, Any]:
        worker = self._free.get()
        try:
            return self._answer(worker, what, question)
        finally:
            self._free.put(worker)

    def _answer(self, worker: subprocess.Popen[str], what: str, question: str) -> dict[str, Any]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(question + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = ""
        if not line:
            code = worker.wait()
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            fix = "see what it printed above; run the command again, with more memory if the system ended it"
            raise SartorError(Problem("P132", f"worker process {worker.pid} {how} at {what}", fix=fix))
        answer: dict[str, Any] = json.loads(line)
        return answer


def _hired() -> subprocess.Popen[str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "sartor.data.crew"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": paths},
        # An interrupt from the keyboard is for the process that asks, which then ends its workers.
        process_group=0,
    )


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer until there are no more questions."""
    for line in questions:
        question = json.loads(line)
        module, _, function = question["do"].partition(":")
        answer = getattr(importlib.import_module(module), function)(question["given"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What anybody prints goes to where errors go, not between the answers.
    os.dup2(2, 1)
    serve(sys.stdin, own)
