"""Talk to a model in the terminal, base and tuned side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from sartor.cli._output import json_option, max_new_tokens, show
from sartor.console import coloured, printable

if TYPE_CHECKING:
    from sartor.flow.chat import Chat

HELP = "/reset forgets the conversation   /system TEXT sets the system message   /quit ends"


@click.command()
@click.argument("model")
@click.option(
    "--against",
    metavar="MODEL",
    help="Who answers beside it: base, a model, or none. By default the base of a tuned model.",
)
@click.option("--system", metavar="TEXT", help="System message.")
@max_new_tokens
@click.option(
    "--temperature",
    metavar="T",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="0 always takes the most likely token.",
)
@click.option("--seed", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Seed of the sampling.")
@json_option
def command(
    model: str,
    against: str | None,
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    as_json: bool,
) -> int:
    """Talk to MODEL in the terminal; a tuned model answers beside its base. Each line is one message.

    Lines from a pipe work as well; with --json the whole conversation is printed at the end.

    \b
    Example:
      sartor chat runs/latest
      sartor chat runs/latest --against none --temperature 0.7
      echo "Where is my lamp?" | sartor chat runs/latest --json
    """
    from sartor.flow.chat import Chat, speakers

    chat = Chat(
        speakers(model, against), system=system, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    for line in _lines():
        if line == "/quit":
            break
        _obey(chat, line, quiet=as_json)
    return show(chat, as_json)


def _lines() -> Iterator[str]:
    """What the user types, line by line, or what comes through the pipe."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    click.echo(click.style(HELP, dim=True), err=True)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            click.echo(err=True)
            return
        if line:
            yield line


def _obey(chat: Chat, line: str, *, quiet: bool) -> None:
    """Carry out a line that is a command; put any other to the models."""
    word, _, rest = line.partition(" ")
    if word == "/reset":
        chat.reset()
    elif word == "/system":
        chat.system = rest.strip() or None
        chat.reset()
    elif word.startswith("/") and word[1:].isalpha():
        click.echo(HELP, err=True)
    else:
        _put(chat, line, quiet=quiet)


def _put(chat: Chat, line: str, *, quiet: bool) -> None:
    if quiet:
        chat.ask(line)
        return
    speaking = ""

    def say(name: str, piece: str) -> None:
        nonlocal speaking
        if name != speaking:
            mark = click.style(f"{name}: ", bold=True) if len(chat.speakers) > 1 else ""
            click.echo(("\n" if speaking else "") + mark, nl=False, color=coloured(sys.stdout))
            speaking = name
        click.echo(printable(piece), nl=False)
        sys.stdout.flush()

    answers = chat.ask(line, say)
    click.echo()
    for name, answer in answers.items():
        if not answer.text:
            click.echo(f"({name} said nothing)", err=True)
        if not answer.stopped:
            click.echo(f"({name} reached the greatest length: --max-new-tokens)", err=True)
        if answer.forgotten:
            click.echo(f"({name} no longer sees the first {answer.forgotten} turns: its window is full)", err=True)
