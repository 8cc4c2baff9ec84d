"""Finds the files that a path of the recipe means."""

from __future__ import annotations

import difflib
import glob
from pathlib import Path

from sartor import embedded, registry
from sartor.data.opening import extension, unreadable
from sartor.errors import DataError, Problem

_BUILTIN = "builtin:"


def expand(path: str, root: Path) -> list[Path]:
    """The files that a path of the recipe means, sorted: a file, a folder, a glob, or builtin:NAME.

    A folder means its files of a known kind, at any depth, without hidden ones; where there are none, all its files.
    Relative paths start at `root`. Raises DataError D113, and D117 for a folder that holds tables beside text files.
    """
    if path.startswith(_BUILTIN):
        return [embedded.builtin(path.removeprefix(_BUILTIN))]
    if "://" in path:
        raise DataError(Problem("D113", f"{path} is an address", fix="download the file, and give its path"))
    if "\0" in path:
        raise DataError(Problem("D113", "the path holds a NUL character"))
    try:
        found = root / Path(path).expanduser()
        if found.is_dir():
            return _folder(found, path)
        if found.exists():
            return [found]
        if glob.has_magic(path):
            return _matches(found, path)
    except (OSError, RuntimeError) as fault:
        raise DataError(unreadable(fault, path)) from fault
    raise DataError(missing(found, path))


def missing(path: Path, shown: str) -> Problem:
    """D113 with the nearest name in the folder."""
    folder = path.parent
    if not folder.is_dir():
        return Problem("D113", f"no such file: the folder {folder} does not exist", file=shown, fix="check the path")
    names = [entry.name for entry in folder.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    what = f'no such file; did you mean "{near[0]}"?' if near else "no such file"
    return Problem(
        "D113", what, file=shown, fix=f"check the path; relative paths start at {folder}" if not near else None
    )


def _folder(folder: Path, shown: str) -> list[Path]:
    inside = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    files = [folder / name for name in inside if (folder / name).is_file() and not _hidden(name)]
    texts, tables = registry.component("source", "text").EXTENSIONS, _extensions()
    known = [file for file in files if extension(file) in tables] or files
    if not known:
        raise DataError(Problem("D113", "the folder has no files", file=shown))
    kinds = {extension(file) in texts for file in known if extension(file) in tables}
    if len(kinds) > 1:
        names = ", ".join(sorted({extension(file) for file in known}))
        fix = f"name one kind: {shown.rstrip('/')}/*{extension(known[0])}"
        raise DataError(Problem("D117", f"the folder holds tables beside text files ({names})", file=shown, fix=fix))
    return known


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _extensions() -> frozenset[str]:
    sources = (registry.component("source", name) for name in registry.names("source"))
    return frozenset(ending for source in sources for ending in source.EXTENSIONS)


def _matches(pattern: Path, shown: str) -> list[Path]:
    files = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True)) if Path(name).is_file()]
    if not files:
        raise DataError(Problem("D113", "no file matches this pattern", file=shown, fix="** means any depth"))
    return files
