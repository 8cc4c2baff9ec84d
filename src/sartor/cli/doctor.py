"""What this machine can do, what is missing, and the command that mends it"""

from __future__ import annotations

import click

from sartor.cli._output import json_option, show


@click.command()
@json_option
def command(as_json: bool) -> int:
    """What this machine can do, what is missing, and the command that mends it. Exit code 3: training cannot work.

    \b
    Example:
      sartor doctor
      sartor doctor --json
    """
    from sartor.flow.doctor import doctor

    return show(doctor(), as_json)
