"""A model in other forms (merged, int8, int4, gguf, onnx ...), each with a certificate."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command()
@click.argument("model")
@click.option("--as", "names", required=True, metavar="NAME[,NAME]", help="Forms to write.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder that gets one folder for each form."
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME.OPTION=VALUE", help="An option of a form, as in a recipe."
)
@click.option("--quantize", metavar="TYPE", help="Short for --set gguf.quantize=TYPE.")
@click.option("--data", metavar="FILE", help="Rows to hold a model against that is no run.")
@click.option(
    "--push", metavar="USER/NAME", help="Put certified artifacts on the Hugging Face hub, in a private repository."
)
@click.option("--dry-run", is_flag=True, help="With --push: list what would go there, and send nothing.")
@click.option("--force", is_flag=True, help="Write again what is there and unchanged.")
@json_option
def command(
    model: str,
    names: str,
    out: Path | None,
    settings: tuple[str, ...],
    quantize: str | None,
    data: str | None,
    push: str | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write MODEL in other forms and hold each against the original, through the program that will run it.

    MODEL is a run folder, a Hugging Face model folder, an adapter folder, a hub id, or sartor/nano. Every artifact answers
    the same probes as the model it was made of; one that answers otherwise than its bounds allow is kept as NAME.failed, and
    the exit code is 1. The same command again writes only what is missing or changed.

    \b
    Example:
      sartor export runs/latest --as merged
      sartor export runs/latest --as merged,gguf --quantize q8_0 --out deploy
      sartor export sartor/nano --as int8 --json
      sartor export runs/latest --as merged --push me/tickets --dry-run
    """
    from sartor.console import display
    from sartor.flow.export import export
    from sartor.flow.export_options import chosen

    wanted = chosen(names, [*settings, *([f"gguf.quantize={quantize}"] if quantize else [])])
    if dry_run and push is None:
        raise click.UsageError("--dry-run says what --push would do; give --push USER/NAME")
    with display() as screen:
        result = export(model, wanted, out=out, data=data, force=force, emit=screen.see)
        if push is not None:
            from sartor.flow.push import pushed

            result = pushed(result, push, dry_run=dry_run, emit=screen.see)
    return show(result, as_json)
