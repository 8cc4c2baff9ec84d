"""Look into a server's request log, export corrections as training rows, forget a user."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def command() -> None:
    """Look into the log of `sartor serve --log DIR`; the server may be running.

    \b
    Example:
      sartor logs list requests --said
      sartor logs export requests --out corrections.jsonl
      sartor logs forget requests --user ann
    """


@command.command("list")
@FOLDER
@click.option("--most", metavar="N", type=click.IntRange(1), default=20, show_default=True, help="Answers, at most.")
@click.option("--model", metavar="NAME", help="Of one model.")
@click.option("--user", metavar="KEY", help="Of one user, as clients name them.")
@click.option("--said", is_flag=True, help="Those alone that somebody has said something of.")
@json_option
def list_(folder: Path, most: int, model: str | None, user: str | None, said: bool, as_json: bool) -> int:
    """List the latest answers.

    \b
    Example:
      sartor logs list requests --said
    """
    from sartor.flow.logs import listed

    return show(listed(folder, most, model=model, user=user, said=said), as_json)


@command.command("show")
@FOLDER
@click.argument("name", metavar="ID")
@json_option
def show_(folder: Path, name: str, as_json: bool) -> int:
    """Show one answer and what was said of it.

    \b
    Example:
      sartor logs show requests chatcmpl-5f0c
    """
    from sartor.flow.logs import shown

    return show(shown(folder, name), as_json)


@command.command("export")
@FOLDER
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSONL.")
@click.option(
    "--score",
    metavar="S",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="An answer with this score or more is an example; so is one with a thumb up.",
)
@json_option
def export_(folder: Path, out: Path, score: float, as_json: bool) -> int:
    """Write corrections, and answers that people liked, as training rows in messages format.

    \b
    Example:
      sartor logs export requests --out corrections.jsonl
    """
    from sartor.flow.logs import export

    return show(export(folder, out, score=score), as_json)


@command.command("forget")
@FOLDER
@click.option("--user", metavar="KEY", required=True, help="As clients name them.")
@json_option
def forget_(folder: Path, user: str, as_json: bool) -> int:
    """Remove everything of a user, and say how much it was. What was exported before stays where it was written.

    \b
    Example:
      sartor logs forget requests --user ann
    """
    from sartor.flow.logs import forgotten

    return show(forgotten(folder, user), as_json)
