"""The frame: help without heavy imports, exit codes, and what people and programs see when something goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sartor import __version__
from sartor.cli import _commands
from sartor.cli._output import json_option
from sartor.cli.main import run, sartor
from sartor.errors import DataError, Interrupted, Problem, RecipeError, SartorError, TrainingStopped


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Puts a command `act` into the group that does as told."""

    def install(act: Callable[[], object]) -> None:
        @click.command()
        @json_option
        def acting(as_json: bool) -> object:
            return act()

        found = sartor.get_command
        monkeypatch.setattr(
            type(sartor), "get_command", lambda self, ctx, name: acting if name == "act" else found(ctx, name)
        )
        monkeypatch.setattr(_commands, "files", lambda: {"act": Path()})

    return install


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sartor.cli.main import run; code = run(['--help']); "
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'rich', 'yaml', 'jinja2', 'tokenizers'} & set(sys.modules); "
        "print('HEAVY', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for name, path in _commands.files().items():
        assert f"  {name} " in done.stdout, f"{name} is not listed"
        assert _commands.summary(path)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"sartor {__version__}\n"


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chek"], 'unknown command "chek"; did you mean "check"?'),
        (["xylophone"], 'unknown command "xylophone"'),
        (["doctor", "--jsn"], "--json"),
        (["check"], "RECIPE"),
    ],
)
def test_misuse_is_one_line_and_exit_2(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "error U001" in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_misuse_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chek", "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problem["code"] == "U001"
    assert "check" in problem["message"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError.say("R102", 'unknown key "methd"', file="recipe.yaml", line=6, column=3), 2),
        (DataError.say("D111", "completion is null", file="a.jsonl", line=4), 2),
        (TrainingStopped.say("N401", "loss is NaN"), 3),
        (Interrupted.say("F130", "saved; the same command resumes"), 130),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_exit_codes_of_errors(
    error: BaseException, code: int, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(error))
    assert run(["act"]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert shown.out == ""
    if isinstance(error, SartorError):
        assert shown.err == f"{error.problems[0]}\n"


def test_a_commands_result_is_the_exit_code(command: Callable[..., None]) -> None:
    command(lambda: 1)
    assert run(["act"]) == 1


def test_problems_are_capped_for_people_and_whole_for_programs(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [Problem("D111", "null", file="a.jsonl", line=n) for n in range(24)]
    command(raising(DataError(*problems, Problem("D150", "twice", level="warning"))))
    assert run(["act", "--json"]) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 22
    assert lines[-2:] == ["... and 5 more; --json lists them all", "24 errors, 1 warning"]
    assert len(json.loads(shown.out)["error"]["problems"]) == 25


def test_text_from_data_cannot_steer_the_terminal(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(DataError.say("D111", "bad", excerpt="\x1b[2Jgone \u202eoverride")))
    run(["act"])
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\u001b[2Jgone \\u202eoverride" in shown


def test_an_unexpected_fault_keeps_its_traceback_in_a_file(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command(raising(ZeroDivisionError("division by zero")))
    assert run(["act", "--json"]) == 3
    shown = capsys.readouterr()
    (kept,) = tmp_path.iterdir()
    assert str(kept) in shown.err
    assert "error X001: ZeroDivisionError: division by zero" in shown.err
    assert "Traceback" not in shown.err
    assert "Traceback" in kept.read_text()
    assert json.loads(shown.out)["error"]["problems"][0]["code"] == "X001"


def test_a_reader_that_goes_away_is_neither_a_crash_nor_a_failed_gate() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sartor", "completion", "bash"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_SARTOR_COMPLETE" in capsys.readouterr().out


def test_completion_knows_the_commands() -> None:
    environment = {
        "_SARTOR_COMPLETE": "bash_complete",
        "COMP_WORDS": "sartor do",
        "COMP_CWORD": "1",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-m", "sartor"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "plain,doctor"


def test_the_schema_of_recipes_needs_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)["properties"]) >= {"base", "data", "goal", "method", "train"}
