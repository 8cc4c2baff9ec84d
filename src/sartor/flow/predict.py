"""Answers to every row of a file, in the order of the rows, kept as they are made so that a stopped call continues."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor import __version__
from sartor.console import printable
from sartor.data.questions import Question, Words, questions, words
from sartor.data.reading import expand
from sartor.errors import DataError, ModelError, Problem, RunError
from sartor.events import Event, Progressed, Stage
from sartor.flow.model import find, load, shares
from sartor.flow.prepare import renderer_for
from sartor.models.heads import HeadSpec
from sartor.store import atomic
from sartor.store.fingerprint import of_file, weights

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.evaluate.heads import Measures
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Outcome

ABOUT = ".about.json"
"""Beside the output: what it was made from, so that it is continued only with the same."""
BATCH = 32
MAX_NEW_TOKENS = 256
DECISIVE = ("weights", "rendering", "input_sha256", "max_new_tokens")
"""Fields of that file which decide the answers."""
Asked = Question | Words
SHOWN = 1000
"""Bad rows that are told; the rest would say the same."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What `predict` did."""

    model: str
    input: str
    output: str
    rows: int
    already_done: int
    """Rows that an earlier call had answered."""
    cut_off: int
    """Answers of this call that reached max_new_tokens without ending."""
    seconds: float

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return asdict(self)

    def render(self, console: Console) -> None:
        """One or two lines."""
        before = f", {self.already_done:,} of them before" if self.already_done else ""
        console.print(printable(f" {self.rows:,} rows answered{before}   {self.seconds:.1f} s   {self.output}"))
        if self.cut_off:
            console.print(f" {self.cut_off:,} answers reached the greatest length allowed   --max-new-tokens")


def predict(
    model: str,
    input: Path,
    output: Path,
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch: int = BATCH,
    emit: Callable[[Event], None],
) -> Predicted:
    """Answer every row of `input`; a line of `output` is the row's record with `id` and `prediction`.

    The same call again answers only the rows that are missing. Raises DataError with every bad row, RunError F140 for an
    output that something else wrote, F141 for one that other inputs made, F142 for one that is the input, and ModelError.
    """
    began = time.monotonic()
    (source,) = expand(str(input), Path.cwd())[:1]
    emit(Stage("data", str(input)))
    total = _count(source, str(input), tagged=_tags(_head(model)))
    about = _about(find(model, Path.cwd()), model, source, max_new_tokens)
    _refuse_foreign(source, output, about)
    atomic.make_folder(output.absolute().parent)
    atomic.write_json(_beside(output), about)
    cut_off = 0
    with atomic.coded(output), output.open("ab+") as file:
        from sartor.evaluate.outcomes import whole_lines

        done = already = whole_lines(file.fileno())
        if already < total:
            emit(Stage("predict", f"{total - already:,} rows"))
            for block, outcomes in _answers(model, source, str(input), already, max_new_tokens, batch, emit):
                file.write(b"".join(map(_line, block, outcomes)))
                file.flush()
                done += len(block)
                cut_off += sum(not outcome.stopped for outcome in outcomes)
                emit(Progressed("rows", done, total))
            os.fsync(file.fileno())
    return Predicted(model, str(input), str(output), total, already, cut_off, time.monotonic() - began)


def _answers(
    model: str,
    source: Path,
    label: str,
    already: int,
    max_new_tokens: int,
    batch: int,
    emit: Callable[[Event], None],
) -> Iterator[tuple[Sequence[Asked], Sequence[Outcome]]]:
    """The rows after the first `already` ones, some at a time."""
    from sartor.evaluate.predict import BLOCK_BATCHES, Measurer

    opened = load(model)
    head = opened.policy.head
    measurer: Measures
    if head is not None:
        measurer = opened.judge
    else:
        measurer = Measurer(opened.policy, opened.renderer, (), (), max_new_tokens, batch, frozenset({"prediction"}))
    waiting = islice(_good(source, label, tagged=_tags(head)), already, None)
    while block := list(islice(waiting, BLOCK_BATCHES * batch)):
        yield block, measurer.block([question.row for question in block])
    for note in measurer.notes():
        emit(note)


def _head(model: str) -> HeadSpec | None:
    """The head of a model; None also where there is no such model, which is told once the rows were found good."""
    try:
        folder = find(model, Path.cwd())
    except ModelError:
        return None
    return HeadSpec.of(folder.path, {} if folder.base else folder.config)


def _tags(head: HeadSpec | None) -> bool:
    return head is not None and head.kind == "tags"


def _good(source: Path, label: str, *, tagged: bool) -> Iterator[Asked]:
    """The questions of a file that was found to have no bad rows."""
    for item in (words if tagged else questions)(source, label=label):
        if not isinstance(item, Problem):
            yield item
        elif item.level == "error":
            raise DataError(item)


def _count(source: Path, label: str, *, tagged: bool) -> int:
    """How many rows the file has. Raises DataError with every bad one."""
    count = 0
    problems: list[Problem] = []
    for item in (words if tagged else questions)(source, label=label):
        if not isinstance(item, Problem):
            count += 1
        elif item.level == "error" and len(problems) < SHOWN:
            problems.append(item)
    if problems:
        raise DataError(*problems)
    return count


def _line(question: Asked, outcome: Outcome) -> bytes:
    told = _told(outcome)
    record = {f"{name}_given" if name in told else name: value for name, value in question.record.items()}
    body = {"id": question.row.id, **record, **told}
    return json.dumps(body, ensure_ascii=False, default=str).encode() + b"\n"


def _told(outcome: Outcome) -> dict[str, Any]:
    """The columns that a row gains."""
    if outcome.prediction is not None:
        return {"prediction": outcome.prediction}
    if outcome.label is not None:
        chances = shares(outcome)
        sure = chances[outcome.label]
        return {"prediction": outcome.label, "label": outcome.label, "score": sure, "probabilities": chances}
    if outcome.labels is not None:
        given = list(outcome.labels)
        return {"prediction": ", ".join(given), "labels": given, "probabilities": shares(outcome)}
    if outcome.tags is not None:
        return {"prediction": list(outcome.tags)}
    return {"prediction": outcome.value, "score": outcome.value}


def _about(folder: ModelFolder, model: str, source: Path, max_new_tokens: int) -> dict[str, Any]:
    files = [*weights(folder.path), *(weights(folder.base.path) if folder.base else ())]
    return {
        "sartor": __version__,
        "model": model,
        "weights": {str(file): of_file(file) for file in files},
        "rendering": renderer_for(folder).fingerprint,
        "input": str(source),
        "input_sha256": of_file(source),
        "max_new_tokens": max_new_tokens,
    }


def _refuse_foreign(source: Path, output: Path, about: Mapping[str, Any]) -> None:
    """Raises RunError where going on would overwrite something or mix two calls."""
    fix = f"give another --output, or remove {output}"
    if output.exists() and output.samefile(source):
        raise RunError(
            Problem("F142", "the output would overwrite the input", file=str(output), fix="another --output")
        )
    if not output.exists() or output.stat().st_size == 0:
        return
    beside = _beside(output)
    if not beside.exists():
        what = f"the output exists, and {beside.name} does not say what it was made from"
        raise RunError(Problem("F140", what, file=str(output), fix=fix))
    before = json.loads(beside.read_bytes())
    changed = [name for name in DECISIVE if _identity(before.get(name)) != _identity(about[name])]
    if changed:
        names = ", ".join(name.removesuffix("_sha256") for name in changed)
        what = f"the output was made with other inputs than yours (changed: {names})"
        raise RunError(Problem("F141", what, file=str(output), fix=fix))


def _identity(value: Any) -> Any:
    """A field without the paths in it."""
    return sorted(value.values()) if isinstance(value, Mapping) else value


def _beside(output: Path) -> Path:
    return output.with_name(output.name + ABOUT)
