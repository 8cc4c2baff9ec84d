"""Says what went wrong: to people on stderr, and with `--json` to programs on stdout as `{"error": {"problems": [...]}}`."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from sartor import __version__
from sartor.console import coloured, printable
from sartor.errors import Problem, SartorError

SHOWN = 20
"""More problems than this are counted, not printed; `--json` has them all."""

COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


def refused(error: SartorError, wants_json: bool) -> int:
    """Print the problems of an error raised on purpose and return its exit code."""
    _say(error.problems, wants_json)
    return error.exit_code


def misused(fault: click.UsageError, wants_json: bool) -> int:
    """Print what is wrong with the command line."""
    command = fault.ctx.command_path if fault.ctx else "sartor"
    _say([Problem("U001", _lower(fault.format_message()), fix=f"{command} --help")], wants_json)
    return 2


def interrupted(wants_json: bool) -> int:
    """The user pressed Ctrl-C in a place where nothing had to be saved."""
    _say([Problem("U130", "interrupted", level="warning")], wants_json)
    return 130


def unexpected(fault: Exception, args: Sequence[str], wants_json: bool) -> int:
    """A fault of ours or of the machine: keep the traceback in a file and say where."""
    what = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    path = _keep(fault, args)
    fix = f"the traceback is in {path}; if Sartor looks at fault, please report it with that file" if path else None
    _say([Problem("X001", what, fix=fix)], wants_json)
    return 3


def _keep(fault: Exception, args: Sequence[str]) -> Path | None:
    head = (
        f"sartor {__version__}, Python {platform.python_version()}, {platform.platform()}\nsartor {' '.join(args)}\n\n"
    )
    text = head + "".join(traceback.format_exception(fault))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="sartor-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
            return Path(file.name)
    except OSError:
        sys.stderr.write(text)
        return None


def _say(problems: Sequence[Problem], wants_json: bool) -> None:
    for problem in problems[:SHOWN]:
        click.echo(_paint(problem), err=True, color=coloured(sys.stderr))
    if len(problems) > SHOWN:
        click.echo(f"... and {len(problems) - SHOWN} more; --json lists them all", err=True)
    if len(problems) > 1:
        counts = [(level, sum(problem.level == level for problem in problems)) for level in COLOURS]
        said = [f"{count} {level}{'s' if count > 1 and level != 'info' else ''}" for level, count in counts if count]
        click.echo(", ".join(said), err=True)
    if wants_json:
        body = {"error": {"problems": [problem.json() for problem in problems]}}
        click.echo(json.dumps(body, ensure_ascii=False, indent=2))


def _paint(problem: Problem) -> str:
    mark = f"{problem.level} {problem.code}"
    painted = click.style(mark, fg=COLOURS[problem.level], bold=True)
    return printable(str(problem)).replace(mark, painted, 1)


def _lower(message: str) -> str:
    text = message.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
