"""Have a judge score or compare the answers of any models, and see how far the judge can be trusted."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL_OR_PREDICTIONS...")
@click.option(
    "--data", metavar="FILE", required=True, help="Rows with prompts; their answers, if any, are shown to the judge."
)
@click.option(
    "--judge", "judging", metavar="MODEL", required=True, help="The judge: a model, or its name at the endpoint."
)
@click.option(
    "--endpoint", metavar="URL", help="Base URL of an OpenAI-compatible server; without it the judge is local."
)
@click.option("--key", metavar="NAME", help="Environment variable with the endpoint's key.")
@click.option(
    "--rubric",
    "rubrics",
    metavar="NAME|FILE",
    multiple=True,
    help="accuracy, helpfulness, tone, or a file; may be repeated. All three, if neither this nor --pairwise is given.",
)
@click.option("--pairwise", "pairs", is_flag=True, help="Compare answers two at a time, in both orders.")
@click.option("--gold", metavar="FILE", help="Judgements by people of some of the answers.")
@click.option(
    "--rows", metavar="N", type=click.IntRange(1), default=200, show_default=True, help="Rows judged, a fixed sample."
)
@click.option(
    "--tries", metavar="N", type=click.IntRange(1, 10), default=3, show_default=True, help="Tries for a readable reply."
)
@click.option(
    "--reply-tokens",
    metavar="N",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Longest reply of the judge.",
)
@click.option(
    "--price", metavar="READ,WRITTEN", help="Price of a million tokens read and written by the judge, as 0.5,1.5."
)
@click.option(
    "--keep",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the judge's replies here; the same call then asks nothing twice.",
)
@click.option(
    "--max-new-tokens",
    metavar="N",
    type=click.IntRange(1, 1 << 20),
    help="Longest answer of a model; by default 1.5 times the longest reference.",
)
@click.option(
    "--batch", metavar="N", type=click.IntRange(1, 4096), default=32, show_default=True, help="Rows answered together."
)
@click.option(
    "--confidence",
    metavar="P",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Level of the intervals.",
)
@json_option
def command(
    models: tuple[str, ...],
    data: str,
    judging: str,
    endpoint: str | None,
    key: str | None,
    rubrics: tuple[str, ...],
    pairs: bool,
    gold: str | None,
    rows: int,
    tries: int,
    reply_tokens: int,
    price: str | None,
    keep: Path | None,
    max_new_tokens: int | None,
    batch: int,
    confidence: float,
    as_json: bool,
) -> int:
    """Put the answers of every MODEL before a judge: scores by rubrics, or pairs in both orders with ratings.

    A MODEL is a run folder, a model or adapter folder, a hub id, sartor/nano, or a file of predictions as `sartor predict`
    writes it. The first is the baseline. Nothing is written but in --keep.

    \b
    Example:
      sartor judge runs/latest --data test.jsonl --judge models/judge --rubric accuracy
      sartor judge old.jsonl new.jsonl runs/latest --data test.jsonl --judge judge --endpoint http://127.0.0.1:8000/v1 --pairwise
      sartor judge new.jsonl --data test.jsonl --judge judge --endpoint https://host/v1 --key JUDGE_KEY --gold people.jsonl --json
    """
    from sartor.console import display
    from sartor.flow.judge import judge, judging_options

    options = judging_options(
        model=judging,
        endpoint=endpoint,
        key=key,
        gold=gold,
        rows=rows,
        tries=tries,
        max_new_tokens=reply_tokens,
        price=price,
    )
    with display() as screen:
        result = judge(
            models,
            data,
            options,
            rubrics=rubrics,
            pairs=pairs,
            keep=keep,
            max_new_tokens=max_new_tokens,
            batch=batch,
            confidence=confidence,
            emit=screen.see,
        )
    return show(result, as_json)
