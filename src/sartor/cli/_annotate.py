"""The commands of `sartor data` by which people label and rank: label, rank, agreement, adjudicate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sartor.cli._output import json_option, show

if TYPE_CHECKING:
    from sartor.data.annotate.order import Probabilities
    from sartor.data.annotate.session import Session

Function = TypeVar("Function", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
A_FILE = click.Path(path_type=Path, dir_okay=False)


def _annotator(function: Function) -> Function:
    return click.option(
        "--annotator", metavar="NAME", envvar="USER", default="annotator", help="Who answers; $USER where not given."
    )(function)


def _page(function: Function) -> Function:
    """Adds `--page`, `--open`, `--port`."""
    for option in (
        click.option(
            "--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Port of the page; a free one."
        ),
        click.option("--open", "browse", is_flag=True, help="Open the page in the browser (implies --page)."),
        click.option("--page", is_flag=True, help="Ask on a local page instead of in the terminal."),
    ):
        function = option(function)
    return function


def _shared(function: Function) -> Function:
    """Adds what labelling and ranking have in common."""
    for option in (
        click.option(
            "--seed", metavar="N", type=click.IntRange(min=0), help="Of shuffles; fixed when the folder is begun."
        ),
        click.option("--skipped", is_flag=True, help="Ask again for the rows you skipped."),
        click.option(
            "--overlap",
            metavar="SHARE",
            type=click.FloatRange(0, 1),
            help="Share of rows that every annotator gets, for agreement; fixed when the folder is begun (0).",
        ),
        click.option("--guidelines", metavar="FILE", type=A_FILE, help="Markdown shown beside the rows."),
        click.option(
            "--import",
            "imported",
            metavar="FILE",
            type=A_FILE,
            help="Take in answers from a Label Studio or OpenAI file.",
        ),
        click.option("--export", "exported", metavar="FILE", type=A_FILE, help="Write the result, and ask nothing."),
        click.option("--out", "folder", metavar="DIR", type=FOLDER, required=True, help="Where answers are kept."),
    ):
        function = option(function)
    return function


@click.command("label")
@click.argument("file", required=False)
@_shared
@click.option("--labels", metavar="A,B,C", help="The labels, or a list in the guidelines under the heading Labels.")
@click.option("--scale", is_flag=True, default=None, help="The labels are steps of a scale, lowest first.")
@click.option(
    "--order",
    "ordering",
    type=click.Choice(["informative", "file", "random"]),
    default="informative",
    show_default=True,
    help="Which rows come first; informative: where the model is unsure, or without one, unlike those before.",
)
@click.option("--suggest", metavar="MODEL", help="Show which label this model would give.")
@click.option(
    "--uncertainty",
    type=click.Choice(["entropy", "margin"]),
    default="entropy",
    show_default=True,
    help="How the model's doubt is measured.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["rows", "label-studio", "openai"]),
    default="rows",
    show_default=True,
    help="What --export writes.",
)
@click.option("--majority", is_flag=True, help="Export: where annotators disagree, more than half decide.")
@_annotator
@_page
@json_option
def label(
    file: str | None,
    folder: Path,
    labels: str | None,
    guidelines: Path | None,
    scale: bool | None,
    overlap: float | None,
    seed: int | None,
    ordering: str,
    suggest: str | None,
    uncertainty: str,
    skipped: bool,
    exported: Path | None,
    imported: Path | None,
    form: str,
    majority: bool,
    annotator: str,
    page: bool,
    browse: bool,
    port: int,
    as_json: bool,
) -> int:
    """Label rows by keyboard, in the terminal or on a local page; each answer is on the disk before the next row comes.

    The same command again goes on where it stopped. Several people may work in the same folder at once, each under a name.

    \b
    Example:
      sartor data label reviews.jsonl --labels positive,negative --annotator ann --out labels
      sartor data label reviews.jsonl --guidelines guide.md --suggest runs/latest --page --open --out labels
      sartor data label --out labels --export labelled.jsonl
    """
    from sartor.console import display
    from sartor.data.annotate.log import named
    from sartor.flow import data_label as flow

    given = tuple(name.strip() for name in labels.split(",")) if labels is not None else None
    settings = flow.Settings(given, scale, overlap, seed)
    if imported is not None:
        return show(flow.take_in(imported, folder, kind="label", annotator=annotator, settings=settings), as_json)
    if exported is not None:
        from sartor.flow.data_export import export_labels

        return show(export_labels(folder, exported, form=form, majority=majority), as_json)
    named(annotator)
    workspace = flow.begin(file, folder, settings=settings, guidelines=guidelines)
    known: Probabilities = {}
    if suggest is not None:
        with display() as screen:
            known = flow.suggested(workspace, suggest, screen.see)
    with flow.labelling(
        workspace, annotator, ordering=ordering, known=known, measure=uncertainty, skipped=skipped
    ) as session:
        _ask(session, workspace.guidelines, page=page, browse=browse, port=port)
        standing = flow.standing(folder, session)
    return show(standing, as_json)


@click.command("rank")
@click.argument("file", required=False)
@_shared
@click.option(
    "--model", "models", metavar="MODEL", multiple=True, help="Have this model write the answers; may be repeated."
)
@click.option(
    "--samples", metavar="K", type=click.IntRange(1, 9), default=4, show_default=True, help="Answers of each model."
)
@click.option("--temperature", type=click.FloatRange(0, 5), default=0.8, show_default=True, help="Of the sampling.")
@click.option(
    "--max-new-tokens",
    metavar="N",
    type=click.IntRange(1, 1 << 20),
    default=256,
    show_default=True,
    help="Longest answer.",
)
@click.option(
    "--order",
    "ordering",
    type=click.Choice(["informative", "file", "random"]),
    default="random",
    show_default=True,
    help="Which prompts come first; informative: each unlike those before.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["pairs", "rankings", "label-studio", "openai"]),
    default="pairs",
    show_default=True,
    help="What --export writes.",
)
@_annotator
@_page
@json_option
def rank(
    file: str | None,
    folder: Path,
    guidelines: Path | None,
    overlap: float | None,
    seed: int | None,
    models: tuple[str, ...],
    samples: int,
    temperature: float,
    max_new_tokens: int,
    ordering: str,
    skipped: bool,
    exported: Path | None,
    imported: Path | None,
    form: str,
    annotator: str,
    page: bool,
    browse: bool,
    port: int,
    as_json: bool,
) -> int:
    """Rank answers from worst to best without seeing who wrote them; the models are named in the export only.

    FILE holds {"prompt": ..., "answers": [...]}, an answer being text or {"text": ..., "model": ...}. With --model, it
    holds prompts in any known form, and the models answer them.

    \b
    Example:
      sartor data rank answers.jsonl --annotator ann --out rankings
      sartor data rank prompts.jsonl --model runs/latest --samples 4 --page --open --out rankings
      sartor data rank --out rankings --export preferences.jsonl
    """
    from sartor.console import display
    from sartor.data.annotate.log import named
    from sartor.flow import data_label, data_rank

    settings = data_label.Settings(overlap=overlap, seed=seed)
    if imported is not None:
        return show(data_label.take_in(imported, folder, kind="rank", annotator=annotator, settings=settings), as_json)
    if exported is not None:
        from sartor.flow.data_export import export_rankings

        return show(export_rankings(folder, exported, form=form), as_json)
    named(annotator)
    with display() as screen:
        workspace = data_rank.begin(
            file,
            folder,
            models=models,
            samples=samples,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            settings=settings,
            guidelines=guidelines,
            emit=screen.see,
        )
    with data_rank.ranking(workspace, annotator, ordering=ordering, skipped=skipped) as session:
        _ask(session, workspace.guidelines, page=page, browse=browse, port=port)
        standing = data_label.standing(folder, session)
    return show(standing, as_json)


@click.command("agreement")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Of the resamples.")
@json_option
def agreement(folder: Path, seed: int, as_json: bool) -> int:
    """Measure how far annotators agree beyond chance: kappa and alpha with intervals, and where they do not.

    \b
    Example:
      sartor data agreement labels
      sartor data agreement labels --json
    """
    from sartor.flow.data_agreement import data_agreement

    return show(data_agreement(folder, seed=seed), as_json)


@click.command("adjudicate")
@click.argument("folder", metavar="DIR", type=FOLDER)
@_annotator
@_page
@json_option
def adjudicate(folder: Path, annotator: str, page: bool, browse: bool, port: int, as_json: bool) -> int:
    """Settle the rows on which annotators disagree, seeing what each of them said; the export follows what you decide.

    \b
    Example:
      sartor data adjudicate labels --annotator lead
      sartor data adjudicate labels --annotator lead --page --open
    """
    from sartor.flow import data_label

    with data_label.adjudicating(folder, annotator) as (workspace, session):
        _ask(session, workspace.guidelines, page=page, browse=browse, port=port)
        standing = data_label.standing(folder, session)
    return show(standing, as_json)


def _ask(session: Session, guidelines: str, *, page: bool, browse: bool, port: int) -> None:
    """Ask on the page or in the terminal, until the annotator ends it."""
    if page or browse:
        from sartor.studio.server import serve

        serve(session, guidelines, port=port, browse=browse)
    else:
        from sartor.cli._annotate_screen import annotate

        annotate(session, guidelines)


COMMANDS = (label, rank, agreement, adjudicate)
