"""The history of experiments: list, show, and their reports written anew."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show

root_option = click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder that holds the runs.",
)


@click.group()
def command() -> None:
    """The history of experiments.

    \b
    Example:
      sartor runs list
      sartor runs show latest --json
    """


@command.command("list")
@root_option
@json_option
def list_(root: Path, as_json: bool) -> int:
    """All runs, newest first: state, base, method, objective, verdict, main metric, time.

    \b
    Example:
      sartor runs list
      sartor runs list --root /data/runs --json
    """
    from sartor.flow.runs import list_runs

    return show(list_runs(root), as_json)


@command.command("show")
@click.argument("run")
@root_option
@json_option
def show_(run: str, root: Path, as_json: bool) -> int:
    """One run: RUN is its folder, `latest`, or the beginning of its name or hash.

    \b
    Example:
      sartor runs show latest
      sartor runs show support
    """
    from sartor.flow.runs import show_run

    return show(show_run(run, root), as_json)


@command.command("report")
@click.argument("run")
@root_option
@json_option
def report_(run: str, root: Path, as_json: bool) -> int:
    """Write the report of a finished run anew from its folder, with what people have said since; nothing is run again.

    \b
    Example:
      sartor runs report latest
    """
    from sartor.flow.human import refresh
    from sartor.flow.rebuilt import rebuild

    refresh(run, root)
    return show(rebuild(run, root), as_json)
