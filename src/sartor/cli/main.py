"""Entry of the command line. The only place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

from sartor import __version__
from sartor.cli import _faults
from sartor.cli._commands import Commands
from sartor.errors import SartorError


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  sartor demo      then:  sartor init --data FILE    sartor run recipe.yaml",
)
@click.version_option(__version__, message="sartor %(version)s")
def sartor() -> None:
    """Fits language models to measure: a file of examples in, a model that is proven better out."""


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 fine, 1 a gate failed, 2 refused, 3 a fault, 130 interrupted."""
    wants_json = "--json" in args
    try:
        code = sartor.main(list(args), prog_name="sartor", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as fault:
        click.echo(fault.format_message(), err=True)
        return 2
    except click.UsageError as fault:
        return _faults.misused(fault, wants_json)
    except click.ClickException as fault:
        return _faults.misused(click.UsageError(fault.format_message()), wants_json)
    except SartorError as error:
        return _faults.refused(error, wants_json)
    except (KeyboardInterrupt, click.Abort):
        return _faults.interrupted(wants_json)
    except Exception as fault:  # noqa: BLE001  the last stop before the user, who must never see a traceback
        return _faults.unexpected(fault, args, wants_json)
    return code if isinstance(code, int) else 0


SPINS = "10000"
"""How long OpenMP threads spin before they sleep: on a busy machine endless spinning takes the cores from those at work."""


def main() -> None:
    """The `sartor` command."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    if "torch.distributed" in sys.modules:
        from sartor.engine.parallel.world import end

        end(code)
    sys.exit(code)
