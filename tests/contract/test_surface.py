"""The public surface: every name of `sartor` and every command is there, documented, and cheap until it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import click
import pytest

import sartor
from sartor.cli import _commands
from sartor.cli.main import sartor as root

PROMISED = {
    *("demo", "init", "check", "run", "predict", "eval", "chat", "doctor", "runs", "data", "completion"),
    *("merge", "interpolate", "export", "judge"),
}
"""The commands of this version; CONTRACT names more to come."""


def _leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [leaf for name, inner in found if inner for leaf in _leaves(inner, (*path, name))]
    return [(path, command)]


LEAVES = _leaves(root, ())
IDS = [" ".join(path) for path, _ in LEAVES]


@pytest.mark.parametrize("name", sorted(set(sartor.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(sartor, name)
    assert inspect.getdoc(value), f"sartor.{name} has no docstring"
    assert name in dir(sartor)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(sartor.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == sartor._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonesuch"):
        sartor.nonesuch  # noqa: B018


def test_importing_sartor_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import sartor; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert imported <= {"sartor"} | set(sys.stdlib_module_names)
    assert "sartor.errors" not in done.stdout.split()


def test_every_promised_command_is_there() -> None:
    assert set(_commands.files()) >= PROMISED


@pytest.mark.parametrize("name", _commands.files())
def test_a_command_file_opens_with_its_summary(name: str) -> None:
    line = _commands.summary(_commands.files()[name])
    assert 10 <= len(line) <= 100
    assert line[0].isupper()


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=IDS)
def test_every_command_has_json_help_and_an_example(path: tuple[str, ...], command: click.Command) -> None:
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert "--json" in flags
    text = command.get_help(click.Context(command, info_name=" ".join(("sartor", *path))))
    assert "Example:" in text
    assert text.count(f"sartor {' '.join(path)}") >= 2, "the example shows the command"
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or getattr(parameter, "help", None), parameter.name


def test_help_imports_click_and_little_else() -> None:
    code = (
        "import atexit, runpy, sys; before = set(sys.modules); sys.argv = ['sartor', '--help']; "
        "atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr)); "
        "runpy.run_module('sartor', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stderr.split()
    assert {name.partition(".")[0] for name in imported} <= {"sartor", "click"} | set(sys.stdlib_module_names)
    assert len(imported) < 150
