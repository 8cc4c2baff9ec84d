"""Look at your data, ask at most three questions, and write a short commented recipe"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--data", metavar="FILE", help="File, folder or glob with your examples.")
@click.option(
    "--map", "pairs", metavar="FIELD=COLUMN", multiple=True, help="Our field = the file's column. May be repeated."
)
@click.option("--goal", metavar="TEXT", help="One sentence: what goes in, and what must come out.")
@click.option(
    "--task",
    type=click.Choice(["chat", "generate", "classify", "regress", "tag", "prefer", "pretrain"]),
    help="By default read off the data.",
)
@click.option("--base", metavar="MODEL", help="Model to start from: sartor/nano (default), a folder, or a hub id.")
@click.option("--yes", is_flag=True, help="Ask nothing; take the defaults.")
@json_option
def command(
    folder: Path,
    data: str | None,
    pairs: tuple[str, ...],
    goal: str | None,
    task: str | None,
    base: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Look at your data, ask at most three questions, and write a short commented recipe into DIR.

    Every question has an option; without a terminal nothing is asked and the defaults are taken.

    \b
    Example:
      sartor init --data tickets.jsonl
      sartor init --data calls.csv --map prompt=question --map completion=reply
      sartor init triage --data tickets.jsonl --goal "Turn a ticket into our triage JSON" --yes
    """
    from sartor.console import terminal
    from sartor.errors import Problem, RecipeError
    from sartor.flow.init import DEFAULT_BASE, candidates, init, look

    columns = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(columns) != len(pairs):
        raise click.BadParameter("expected FIELD=COLUMN, each field once", param_hint="--map")
    asking = sys.stdin.isatty() and not yes
    if data is None:
        found = candidates(Path.cwd())
        only = found[0] if len(found) == 1 else None
        if asking:
            data = click.prompt(" Which file holds your examples?", default=only, err=True)
        elif only:
            data = only
        else:
            seen = f"here are {', '.join(found[:5])}" if found else "there is none in this folder"
            raise RecipeError(Problem("R162", f"which file holds the examples? {seen}", fix="sartor init --data FILE"))
    assert data is not None
    looked = look(data, columns)
    looked.render(terminal(sys.stderr))
    if goal is None and asking:
        question = " What goes in, and what must come out? (one sentence, Enter to say it later)"
        goal = click.prompt(question, default="", show_default=False, err=True) or None
    if base is None and asking:
        base = click.prompt(" Which model to start from?", default=DEFAULT_BASE, err=True)
    return show(init(looked, folder, goal=goal, task=task, base=base or DEFAULT_BASE), as_json)
