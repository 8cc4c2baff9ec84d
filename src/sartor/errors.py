"""Every error Sartor raises on purpose, and the exit code each one ends the process with.

    SartorError                3   a fault of ours or of the machine
    ├── InputError             2   the user's input is at fault; nothing was written or lost
    │   ├── RecipeError            R1xx  the recipe file or an override
    │   ├── DataError              D1xx  rows;  S3xx  secrets, personal data, archives;  S4xx  bias;  A1xx  labels and rankings by people
    │   ├── TokenError             T2xx  template, mask, vocabulary
    │   ├── ModelError             M1xx  base model, adapter, device
    │   └── RunError               F1xx  run folder: in use, changed inputs, damaged
    ├── TrainingStopped        3   N4xx  non-finite loss or weights; the last good checkpoint is kept
    └── Interrupted          130   saved; run the same command again to resume

A message says what happened, where (file:line:column), and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about the user's input: what is wrong, where, and how to mend it."""

    code: str
    what: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    excerpt: str | None = None
    fix: str | None = None
    level: Level = "error"
    rows: tuple[int, ...] = ()
    """Further lines of the same file with the same fault."""
    caret: int = 0
    """How many characters of the excerpt the fault covers; > 0 prints the excerpt as a source line with a caret."""

    @property
    def where(self) -> str:
        """``file:line:column`` as far as it is known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        if self.caret:
            text = f"{self.where}  {self.level} {self.code}: {self.what}"
            gutter = f"{self.line or '':>6} | "
            pointer = " " * (len(gutter) - 2) + "| " + " " * ((self.column or 1) - 1) + "^" * self.caret
            text += f"\n{gutter}{self.excerpt}\n{pointer}"
            return f"{text}\n  fix: {self.fix}" if self.fix else text
        text = f"{head}{self.level} {self.code}: {_sentence(self.what)}"
        if self.excerpt:
            text += f" {self.excerpt}"
        if self.fix:
            text += f" Fix: {self.fix}"
        return text

    def json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        fields = asdict(self)
        del fields["caret"]
        return fields | {"message": fields.pop("what"), "rows": list(self.rows)}


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", ":")) else text + "."


class SartorError(Exception):
    """Base of all errors raised on purpose; holds one or more problems."""

    exit_code: ClassVar[int] = 3

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("an error needs at least one problem")
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    @classmethod
    def say(cls, code: str, what: str, **where: Any) -> SartorError:
        """An error with a single problem; keywords as in `Problem`."""
        return cls(Problem(code, what, **where))


class InputError(SartorError):
    """The user's input is at fault."""

    exit_code = 2


class RecipeError(InputError):
    """The recipe or an override of it."""


class DataError(InputError):
    """Rows of a data file."""


class TokenError(InputError):
    """Chat template, loss mask or vocabulary."""


class ModelError(InputError):
    """The base model, an adapter, or the device."""


class RunError(InputError):
    """A run folder that is in use, damaged, or belongs to other inputs."""


class TrainingStopped(SartorError):
    """Training met non-finite numbers; the weights are those of the last good checkpoint."""


class Interrupted(SartorError):
    """The user stopped the run; it was saved and resumes with the same command."""

    exit_code = 130


def raise_errors(error: type[SartorError], problems: Iterable[Problem]) -> None:
    """Raise `error` with every problem of level error, if there is one."""
    errors = tuple(problem for problem in problems if problem.level == "error")
    if errors:
        raise error(*errors)
