"""Serve models to programs: an OpenAI-compatible server on this machine."""

from __future__ import annotations

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
    as_json: bool,
) -> int:
    """Serve models by OpenAI's API: chat, completions, embeddings, and labels of models with a head.

    MODEL is a run folder, a Hugging Face model folder, an adapter folder, or sartor/nano; several adapters share their base. The server
    listens on this machine alone and wants a token; with --json the address and the token are one JSON document. Answers are the same as in evaluation; requests join each other pass by pass.

    \b
    Example:
      sartor serve runs/latest
      sartor serve tuned=runs/latest base=sartor/nano --port 8001
      curl http://127.0.0.1:8000/v1/chat/completions -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \
        -d '{"model": "tuned", "messages": [{"role": "user", "content": "Where is my lamp?"}]}'
    """
    from sartor.console import display
    from sartor.flow.serve import Settings, serve, token_from

    if token_env and no_token:
        raise click.UsageError("--token-env and --no-token do not go together")
    token = None if no_token else token_from(token_env) if token_env else ""
    settings = Settings(host, port, token, slots, context, queue, timeout, max_body, hosts, origins)
    with display() as screen:
        serve(models, settings, screen.see, as_json=as_json)
    return 0
