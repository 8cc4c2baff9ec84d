"""Serve models to programs: an OpenAI-compatible server on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one."
)
@click.option(
    "--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Another one lets other machines ask."
)
@click.option(
    "--token-env", metavar="NAME", help="Environment variable that holds the token; else one is made and printed."
)
@click.option("--no-token", is_flag=True, help="Let everybody on this machine ask.")
@click.option(
    "--slots", metavar="N", type=click.IntRange(1, 1024), help="Answers that a model writes at the same time."
)
@click.option("--context", metavar="N", type=click.IntRange(16), help="Tokens of prompt and answer together, at most.")
@click.option(
    "--queue", metavar="N", type=click.IntRange(1), default=256, show_default=True, help="Requests that may wait."
)
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0.1),
    default=120.0,
    show_default=True,
    help="Seconds an answer may take.",
)
@click.option(
    "--max-body", metavar="BYTES", type=click.IntRange(1024), default=1 << 20, show_default=True, help="Of one request."
)
@click.option(
    "--allow-host", "hosts", metavar="NAME", multiple=True, help="A further name of this server, with its port."
)
@click.option("--allow-origin", "origins", metavar="ORIGIN", multiple=True, help="A web page that may ask.")
@click.option(
    "--ab",
    metavar="A=90,B=10",
    help="Divide the requests to the model `ab` between models, each user always to the same.",
)
@click.option("--ab-name", metavar="NAME", default="ab", show_default=True, help="Of the test, and of its model.")
@click.option(
    "--guard",
    "guards",
    metavar="BOUND",
    multiple=True,
    help="Take an arm out once it is shown to break it: error_rate<=0.05, thumb>=0.4, score>=0.5, ended>=0.8.",
)
@click.option("--shadow", metavar="NAME", help="A model that answers everything too, for the log alone; needs --log.")
@click.option(
    "--log",
    "log_folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Log requests and answers there, and take feedback.",
)
@click.option("--log-redact", metavar="KINDS", help="Personal data taken out of logged texts, or none.  [all but url]")
@click.option("--log-regions", metavar="US,DE", help="Countries whose phone numbers need no country code.  [US]")
@click.option(
    "--log-share", metavar="P", type=click.FloatRange(0, 1), help="Share of requests whose texts are kept.  [1]"
)
@click.option("--log-days", metavar="N", type=click.IntRange(1), help="Remove what is older.  [never]")
@click.option(
    "--log-sync",
    metavar="S",
    type=click.FloatRange(0),
    help="Seconds until it is on the disk; 0: before the answer.  [1]",
)
@click.option(
    "--engine",
    type=click.Choice(["vllm", "sglang", "llama.cpp", "ollama"]),
    help="Print the command that serves MODEL by another server.",
)
@click.option("--start", is_flag=True, help="With --engine: run that command, too.")
@json_option
def command(
    models: tuple[str, ...],
    port: int,
    host: str,
    token_env: str | None,
    no_token: bool,
    slots: int | None,
    context: int | None,
    queue: int,
    timeout: float,
    max_body: int,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    ab: str | None,
    ab_name: str,
    guards: tuple[str, ...],
    shadow: str | None,
    log_folder: Path | None,
    log_redact: str | None,
    log_regions: str | None,
    log_share: float | None,
    log_days: int | None,
    log_sync: float | None,
    engine: str | None,
    start: bool,
    as_json: bool,
) -> int:
    """Serve models by OpenAI's API: chat, completions, embeddings, and labels of models with a head.

    MODEL is a run folder, a Hugging Face model folder, an adapter folder, or sartor/nano; several adapters share their base. The server
    listens on this machine alone and wants a token; with --json the address and the token are one JSON document. Answers are the same as
    in evaluation; requests join each other pass by pass.

    \b
    Example:
      sartor serve runs/latest
      sartor serve tuned=runs/latest base=sartor/nano --port 8001
      sartor serve tuned=runs/latest base=sartor/nano --log requests --ab tuned=90,base=10 --guard "error_rate<=0.05"
      curl http://127.0.0.1:8000/v1/chat/completions -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
        -d '{"model": "tuned", "messages": [{"role": "user", "content": "Where is my lamp?"}]}'
    """
    from sartor.console import display
    from sartor.flow.serve import Settings, serve, token_from
    from sartor.flow.serve_log import LogSettings, divided, kinds

    if start and engine is None:
        raise click.UsageError("--start goes with --engine")
    if engine is not None:
        return _elsewhere(engine, models, host, port, context, start=start)
    if token_env and no_token:
        raise click.UsageError("--token-env and --no-token do not go together")
    token = None if no_token else token_from(token_env) if token_env else ""
    chosen = {
        "redact": None if log_redact is None else kinds(log_redact),
        "regions": None if log_regions is None else tuple(region.strip().upper() for region in log_regions.split(",")),
        "share": log_share,
        "days": log_days,
        "sync": log_sync,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    if log_folder is None and (given or shadow):
        raise click.UsageError(f"--{f'log-{next(iter(given))}' if given else 'shadow'} needs --log DIR")
    if ab is None and (guards or ab_name != "ab"):
        raise click.UsageError(f"--{'guard' if guards else 'ab-name'} needs --ab")
    log = None if log_folder is None else LogSettings(log_folder, **given)  # type: ignore[arg-type]
    test = None if ab is None else divided(ab_name, ab, guards)
    settings = Settings(host, port, token, slots, context, queue, timeout, max_body, hosts, origins, log, test, shadow)
    with display() as screen:
        serve(models, settings, screen.see, as_json=as_json)
    return 0


def _elsewhere(engine: str, models: tuple[str, ...], host: str, port: int, context: int | None, *, start: bool) -> int:
    from sartor.flow import engines

    if len(models) != 1:
        raise click.UsageError("--engine serves one MODEL")
    name, equals, reference = models[0].partition("=")
    named = (name, reference) if equals and name and "/" not in name else (None, models[0])
    found = engines.command(engine, *named, host=host, port=port, context=context)
    click.echo(found.text)
    return engines.start(found) if start else 0
