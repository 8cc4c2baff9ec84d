"""Let people compare the answers of a run blind, and put what they say into its report."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sartor.cli._output import json_option, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from sartor.data.annotate.session import Session
    from sartor.flow.human import Desk, Exported
    from sartor.studio.guard import App

A_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("run")
@click.option(
    "--against",
    metavar="MODEL",
    help="What tuned is compared with: base, few_shot, or another name of evaluate.against.  [base]",
)
@click.option(
    "--kind",
    type=click.Choice(["pairwise", "likert"]),
    help="Which of two answers is better, or each answer from 1 to 5.  [pairwise]",
)
@click.option(
    "--questions",
    metavar="A,B",
    help="What is asked of each row: overall, accuracy, helpfulness, tone, or names of yours.  [pairwise: overall;"
    " likert: accuracy,helpfulness,tone]",
)
@click.option(
    "--rows", metavar="N", type=click.IntRange(1), help="Test rows, drawn at random; more may be added.  [100]"
)
@click.option(
    "--reference/--no-reference", default=None, help="Show the right answer too; fixed with the first rating."
)
@click.option("--raters", metavar="A,B", envvar="USER", default="rater", help="Who rates; $USER where not given.")
@click.option("--guidelines", metavar="FILE", type=A_FILE, help="Markdown shown beside the rows.")
@click.option("--skipped", is_flag=True, help="Ask again for the rows you skipped.")
@click.option("--terminal", is_flag=True, help="Ask in the terminal instead of on a local page.")
@click.option("--open", "browse", is_flag=True, help="Open the page in the browser.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Port of the page; a free one.")
@click.option("--export", "exported", metavar="FILE", type=A_FILE, help="Write a blind sheet (.html or .csv) to send.")
@click.option(
    "--import", "imported", metavar="FILE", type=A_FILE, multiple=True, help="Take in a sheet that came back."
)
@click.option("--results", is_flag=True, help="Say what was rated so far, and ask nothing.")
@click.option(
    "--root", metavar="DIR", type=click.Path(path_type=Path), default=Path("runs"), help="Folder that holds the runs."
)
@json_option
def command(
    run: str,
    against: str | None,
    kind: str | None,
    questions: str | None,
    rows: int | None,
    reference: bool | None,
    raters: str,
    guidelines: Path | None,
    skipped: bool,
    terminal: bool,
    browse: bool,
    port: int,
    exported: Path | None,
    imported: tuple[Path, ...],
    results: bool,
    root: Path,
    as_json: bool,
) -> int:
    """Let people compare the answers of a run blind: side by side, or each on a scale; nothing says which model wrote what.

    RUN is a folder, `latest`, or the beginning of a name. Every rating is on the disk before the next row is shown, and the
    same command goes on where it stopped. When it ends, win rates with intervals, the raters' agreement and the rows it
    still takes are printed and put into the run's report.

    \b
    Example:
      sartor human latest --raters ann,bob --open
      sartor human latest --kind likert --questions accuracy,tone --terminal
      sartor human latest --export sheet.html --raters ann,bob
      sartor human latest --import answers-ann.json --import answers-bob.json
    """
    from sartor.flow import human as flow

    names = tuple(dict.fromkeys(name.strip() for name in raters.split(",") if name.strip()))
    asked = tuple(name.strip() for name in questions.split(",")) if questions is not None else None
    if exported is not None and exported.suffix.lower() not in (".html", ".csv"):
        raise click.UsageError("--export writes .html or .csv")
    if not names or (terminal and len(names) > 1):
        raise click.UsageError("--raters needs one name" if terminal else "--raters needs a name")
    desk = flow.begin(run, root, flow.Wanted(kind, against, asked, rows, reference), guidelines)
    if exported is not None:
        return show(_sheets(desk, exported, names), as_json)
    if imported:
        return show(flow.take_in(desk, imported), as_json)
    if not results:
        click.echo(f" {desk.before}", err=True)
        _ask(desk, names, skipped=skipped, terminal=terminal, browse=browse, port=port)
    return show(flow.conclude(desk), as_json)


def _ask(desk: Desk, names: tuple[str, ...], *, skipped: bool, terminal: bool, browse: bool, port: int) -> None:
    """Ask on the page or in the terminal until it is ended."""
    from sartor.flow.human import rating

    with ExitStack() as stack:

        def opened(name: str) -> Session:
            return stack.enter_context(rating(desk, name, skipped=skipped))

        if terminal:
            from sartor.cli._annotate_screen import annotate

            annotate(opened(names[0]), desk.guidelines)
        elif len(names) == 1:
            from sartor.studio.server import serve

            serve(opened(names[0]), desk.guidelines, port=port, browse=browse)
        else:
            from sartor.data.annotate.log import named
            from sartor.studio.raters import Raters
            from sartor.studio.server import host

            for name in names:
                named(name)

            def made(token: str, stop: Callable[[], None]) -> App:
                return Raters(names, opened, desk.done, len(desk.asked.units), desk.guidelines, token, stop)

            host(made, port=port, browse=browse)


def _sheets(desk: Desk, file: Path, names: tuple[str, ...]) -> Exported:
    """A sheet for every rater."""
    from sartor.evaluate import sheets
    from sartor.evaluate.asking import KEYS
    from sartor.flow.human import export, sheet_files
    from sartor.studio.sheet import document

    contents = {}
    for rater, path in sheet_files(file, names).items():
        if file.suffix.lower() == ".csv":
            contents[str(path)] = sheets.as_csv(desk.asked, rater, desk.sheet)
        else:
            rows = list(sheets.entries(desk.asked, rater))
            contents[str(path)] = document(desk.sheet, rater, rows, KEYS[desk.asked.plan.kind], desk.guidelines)
    return export(desk, contents)
