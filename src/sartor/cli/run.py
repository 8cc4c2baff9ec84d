"""Data, baseline, training, verdict: the whole recipe; the same command again resumes it"""

from __future__ import annotations

import os
from pathlib import Path

import click

from sartor.cli._output import json_option, overrides, show


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@overrides
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="Run folder; by default a new one under runs/."
)
@click.option(
    "--allow-change",
    "allow",
    metavar="KEY",
    multiple=True,
    help="When resuming, accept that this value differs from the one the run began with. May be repeated.",
)
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(1, 4096),
    help="Train with N processes on this machine. Several machines: torchrun -m sartor run ...",
)
@click.option(
    "--on",
    metavar="ADDRESS",
    help="Run on a Ray cluster: ray://HOST:PORT, ray://auto (the one this machine belongs to) or ray://local.",
)
@json_option
def command(
    recipe: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    allow: tuple[str, ...],
    processes: int | None,
    on: str | None,
    as_json: bool,
) -> int:
    """Prepare the data, measure the base, train, and compare both on rows never seen. Exit code 1: a gate failed.

    The same command again on the same folder resumes an interrupted run and skips what is done.

    \b
    Example:
      sartor run recipe.yaml
      sartor run recipe.yaml train.epochs=2 method=full --out runs/tickets
      sartor run recipe.yaml --processes 8
      sartor run recipe.yaml --processes 16 --on ray://head:10001
    """
    from sartor.console import display
    from sartor.flow.launch import Launch, rank

    launch = Launch.of(processes, os.environ, on=on)
    if on is not None:
        from sartor.flow.cluster import run_on

        options = [word for key in allow for word in ("--allow-change", key)]
        options += ["--out", str(out.absolute())] if out else []
        words = ["run", *options, *(["--json"] if as_json else []), "--", str(recipe.absolute()), *overrides]
        with display() as screen:
            return run_on(on, processes, words, screen.see)

    if launch.size > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if rank(os.environ):
        from sartor.flow.worker import work

        with display() as screen:
            return work(os.environ, screen.see)

    from sartor.flow.run import run

    with display() as screen:
        result = run(recipe, out, overrides, allow, screen.see, launch=launch)
    return show(result, as_json)
