"""The rules of the house that a tool can check: see docs/adr/0001-house-and-layers.md and CONTRIBUTING.md."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from pydantic import BaseModel

import sartor
from sartor.options import Options

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "sartor"
FILES = sorted(path for path in SRC.rglob("*.py") if "__pycache__" not in path.parts)
NAMES = [str(path.relative_to(SRC)) for path in FILES]

FORBIDDEN = {
    "pickle": r"\bpickle\b",
    "torch.load": r"\btorch\.load\b",
    "eval": r"(?<![\w.])(?<!def )eval\(",
    "exec": r"(?<![\w.])exec\(",
    "a shell": r"shell\s*=\s*True",
    "yaml.load": r"\byaml\.load\(",
    "remote code": r"\btrust_remote_code\W+True",
    "a path of one machine": r"(?<![\w.~])/(?:work|root|home|Users)/",
}


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_nothing_forbidden_is_in_the_source(rule: str) -> None:
    pattern = re.compile(FORBIDDEN[rule])
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_forbidden_patterns_find_what_they_forbid() -> None:
    guilty = {
        "pickle": "import pickle",
        "torch.load": "state = torch.load(path)",
        "eval": "return eval(text)",
        "exec": "exec(code)",
        "a shell": "run(line, shell=True)",
        "yaml.load": "yaml.load(stream)",
        "remote code": "trust_remote_code=True",
        "a path of one machine": 'DATA = "/home/someone/data"',
    }
    assert all(re.search(FORBIDDEN[rule], line) for rule, line in guilty.items())
    innocent = "model.eval()  # yaml.safe_load(x), folder/work/a, retrieval(x), trust_remote_code=False"
    assert not any(re.search(pattern, innocent) for pattern in FORBIDDEN.values())


def test_there_is_no_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "shared"}
    assert not [path for path in SRC.rglob("*") if path.stem in drawers]


def test_every_package_has_its_charter_in_one_line() -> None:
    folders = {path.parent for path in FILES}
    for folder in sorted(folders):
        charter = folder / "__init__.py"
        assert charter.exists(), f"{folder.relative_to(SRC)} has no __init__.py"
        text = ast.get_docstring(ast.parse(charter.read_text(encoding="utf-8")))
        assert text, f"{folder.relative_to(SRC)} has no charter"
        assert text.splitlines()[0].endswith("."), f"{folder.relative_to(SRC)}: a charter is a sentence"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(ast.parse((SRC / name).read_text(encoding="utf-8")))


def _modules() -> list[str]:
    found = pkgutil.walk_packages(sartor.__path__, "sartor.")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


def _all_options() -> set[type[Options]]:
    for name in _modules():
        importlib.import_module(name)
    found: set[type[Options]] = set()
    todo: list[type[Options]] = [Options]
    while todo:
        for kind in todo.pop().__subclasses__():
            if kind not in found and kind.__module__.startswith("sartor."):
                found.add(kind)
                todo.append(kind)
    return found


def test_every_option_is_documented() -> None:
    options = _all_options()
    assert len(options) > 15
    bare = [
        f"{kind.__module__}.{kind.__name__}.{name}"
        for kind in options
        for name, field in kind.model_fields.items()
        if not field.description and kind.__name__ != "Component"
    ]
    assert not bare, bare


def test_every_setting_of_the_user_is_strict_and_frozen() -> None:
    for kind in _all_options():
        assert kind.model_config.get("extra") == "forbid", kind
        assert kind.model_config.get("frozen"), kind
    loose = [
        kind for kind in BaseModel.__subclasses__() if kind.__module__.startswith("sartor.") and kind is not Options
    ]
    assert not loose, loose


TORCH_FREE = (
    *("recipe", "store", "data", "metrics", "tokens", "advise", "registry", "console", "cli"),
    *("flow.check", "flow.doctor", "flow.init", "flow.prepare", "flow.runs"),
)
"""What `sartor check` and `sartor --help` reach: importing it must not import torch."""


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_import_without_torch(room: str) -> None:
    names = [name for name in _modules() if name == f"sartor.{room}" or name.startswith(f"sartor.{room}.")]
    assert names
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'peft', 'polars', 'sklearn'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


PARTS = {"pydantic-core": "pydantic", "llama-cpp": "llama-cpp-python"}
"""Distributions that another one pins exactly and that are used through it, and names by which one is imported."""


def _imports(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"sartor"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(lines: list[str]) -> set[str]:
    return {_canonical(re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0]) for line in lines}


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Of the core, and of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], project["optional-dependencies"]


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    users: dict[str, set[str]] = defaultdict(set)
    owners = packages_distributions()
    for path in FILES:
        for name in _imports(path):
            for owner in owners.get(name, [name]):
                users[PARTS.get(_canonical(owner), _canonical(owner))].add(str(path.relative_to(SRC)))
    needed, optional = _requirements()
    core = _declared(needed)
    extras = {name for extra, lines in optional.items() if extra != "dev" for name in _declared(lines)}
    undeclared = {name: files for name, files in users.items() if name not in core | extras}
    assert not undeclared, f"imported but not declared: {undeclared}"
    assert not core - set(users), f"declared but never imported: {core - set(users)}"
    for name in extras:
        assert len(users.get(name, ())) == 1, f"{name} is optional and must be imported in exactly one file"


def test_the_tested_versions_lie_in_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    pins = {_canonical(name): version for name, version in pins.items()}
    assert not [version for version in pins.values() if "+" in version]
    assert not [name for name in pins if name.startswith(("nvidia", "triton"))]
    core, optional = _requirements()
    for requirement in map(Requirement, [*core, *(line for lines in optional.values() for line in lines)]):
        if requirement.name != "sartor":
            assert pins[_canonical(requirement.name)] in requirement.specifier, requirement
