"""Shows rows exactly as the model will see them, with the learnt tokens marked. Writes nothing but the page asked for."""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor import registry
from sartor.advise.settings import usual_objective
from sartor.data.pipeline import Audit, by_shares, examine, not_at_all
from sartor.data.split import PARTS
from sartor.errors import DataError, Problem, raise_errors
from sartor.events import Event
from sartor.flow.heads import inputs_for, targets_of
from sartor.flow.prepare import renderer_for
from sartor.models.catalog import NANO, resolve
from sartor.models.kinds import kind_of
from sartor.recipe.schema import Data, Source
from sartor.tokens.batch import Rendered
from sartor.tokens.candidates import Candidate, candidates
from sartor.tokens.inputs import Inputs
from sartor.tokens.render import Renderer, has_reasoning
from sartor.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Traits

RECIPES = (".yaml", ".yml")
_EDGES = re.compile(r" (?=\n| |$)|(?<=\n) |(?<= ) |^ ")
_STYLES = {"given": "", "learnt": "black on green", "control": "dim italic", "learnt control": "bold black on green"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring tokens of one kind."""

    text: str
    weight: float
    """Loss weight; 0 is not learnt."""
    control: bool
    tokens: int

    @property
    def kind(self) -> str:
        """given, learnt, control or learnt control."""
        return " ".join(name for name in ("learnt" * (self.weight != 0), "control" * self.control) if name) or "given"


@dataclass(frozen=True, slots=True)
class Shown:
    """One rendering of one row."""

    row: int
    file: str
    line: int
    part: str | None
    tokens: int
    supervised: int
    pieces: tuple[Piece, ...]
    problem: str | None = None
    """Why the row would be refused."""
    answer: str | None = None
    """Which of the answers to compare this is, and how good it is."""

    @property
    def head(self) -> str:
        """Where the row is from and how long it is."""
        part = f"   {self.part}" if self.part else ""
        counts = f"   {self.tokens:,} tokens, {self.supervised:,} learnt" if self.problem is None else ""
        answer = f"   {self.answer}" if self.answer else ""
        return f"row {self.row}   {self.file}:{self.line}{part}{answer}{counts}"


@dataclass(frozen=True, slots=True)
class DataShown:
    """Rows with their masks."""

    model: str
    template: str
    rows: tuple[Shown, ...]
    page: Path | None = None
    faults: int = 0
    """Errors in the data, for which a run would be refused."""

    @property
    def exit_code(self) -> int:
        """2 where a shown row would be refused."""
        return 2 if any(shown.problem for shown in self.rows) else 0

    def json(self) -> dict[str, Any]:
        """``{"model", "template", "rows": [{row, file, line, part, tokens, supervised, pieces, problem, answer}], "page", "faults"}``."""
        rows = [asdict(shown) for shown in self.rows]
        return {
            "model": self.model,
            "template": self.template,
            "rows": rows,
            "page": str(self.page) if self.page else None,
            "faults": self.faults,
        }

    def render(self, console: Console) -> None:
        """Print the rows in colour, or where the page is."""
        from rich.text import Text

        from sartor.console import printable

        console.print(f" {self.model}   {self.template}", soft_wrap=True)
        if self.faults:
            what = f" a run would be refused for {self.faults:,} error{'' if self.faults == 1 else 's'} in these data; sartor data check names them"
            console.print(what, style="yellow", soft_wrap=True)
        if self.page is not None:
            console.print(f" wrote {self.page}", soft_wrap=True)
            return
        plain = console.color_system is None
        legend = Text(" ")
        for kind, name in (("given", "given"), ("learnt", "learnt"), ("control", "control token")):
            legend.append("[[" if plain and kind == "learnt" else "")
            legend.append(name, _STYLES[kind])
            legend.append("]]   " if plain and kind == "learnt" else "   ")
        console.print(legend)
        for shown in self.rows:
            console.print(f"\n {printable(shown.head)}", style="bold", soft_wrap=True)
            if shown.problem is not None:
                console.print(f" {printable(shown.problem)}", style="red", soft_wrap=True)
                continue
            body = Text()
            for piece in shown.pieces:
                text = printable(visible(piece.text))
                body.append(f"[[{text}]]" if plain and piece.weight else text, _STYLES[piece.kind])
                if piece.weight not in (0.0, 1.0):
                    body.append(f"x{piece.weight:g}", "yellow")
            console.print(body)


def data_show(
    target: str,
    *,
    rows: int = 3,
    row: int | None = None,
    split: str | None = None,
    html: Path | None = None,
    emit: Callable[[Event], None],
) -> DataShown:
    """Render rows of a recipe's data with the recipe's model, or of a data file with the embedded one.

    Args:
        target: a recipe or a data file.
        rows: how many rows, from the first.
        row: this row only, counted from 0.
        split: rows of this part only.
        html: write a self-contained page there.

    Raises:
        DataError: the file cannot be read, or there is no such row.
        RecipeError, ModelError, TokenError: the recipe, its model or the model's template does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="sartor-") as folder:
        audit, renderer, model, template = _open(target, Path(folder), emit)
        shown = tuple(
            view for index in _chosen(audit, target, rows, row, split) for view in _views(audit, renderer, index)
        )
    result = DataShown(model, template, shown, html, len(audit.findings.errors))
    if html is not None:
        from sartor.store.atomic import write_text

        write_text(html, page(result))
    return result


def visible(text: str) -> str:
    """The text with line ends, tabs and spaces at edges shown."""
    return (
        _EDGES.sub("\N{MIDDLE DOT}", text).replace("\t", "\N{RIGHTWARDS ARROW}\t").replace("\n", "\N{RETURN SYMBOL}\n")
    )


def pieces(renderer: Renderer | Inputs, rendered: Rendered) -> Iterator[Piece]:
    """The row as text, cut where weight or kind of token changes."""
    special = set(renderer.vocabulary.special_tokens.values())
    start, ids, weights = 0, rendered.ids.tolist(), rendered.weight.tolist()
    kinds = [(weight, index in special) for weight, index in zip(weights, ids, strict=True)]
    for end in range(1, len(ids) + 1):
        if end < len(ids) and kinds[end] == kinds[start]:
            continue
        (text,) = renderer.decode([ids[start:end]])
        yield Piece(text, *kinds[start], end - start)
        start = end


def page(result: DataShown) -> str:
    """A self-contained HTML page."""
    blocks = []
    for shown in result.rows:
        body = "".join(
            f'<span class="{piece.kind}" title="weight {piece.weight:g}, {piece.tokens} tokens">'
            f"{html.escape(visible(piece.text))}</span>"
            for piece in shown.pieces
        )
        fault = f'<p class="fault">{html.escape(shown.problem)}</p>' if shown.problem else ""
        blocks.append(f"<h2>{html.escape(shown.head)}</h2>{fault}<pre>{body}</pre>")
    return _PAGE.format(model=html.escape(result.model), template=html.escape(result.template), rows="\n".join(blocks))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Rows with their loss mask</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ font-size: 1rem; margin: 2rem 0 .3rem }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8886; border-radius: 6px; padding: .8rem }}
.learnt {{ background: #2a84; border-radius: 3px }}
.control {{ opacity: .65; font-style: italic }}
.learnt.control {{ opacity: 1; font-weight: bold }}
.fault {{ color: #c33 }}
</style></head><body>
<h1>Rows with their loss mask</h1>
<p>{model}, {template}. <span class="given">Given</span>, <span class="learnt">learnt</span>,
<span class="control">control token</span>.</p>
{rows}
</body></html>
"""


def _open(target: str, folder: Path, emit: Callable[[Event], None]) -> tuple[Audit, Renderer | Inputs, str, str]:
    """The rows, what a run would make tokens of them with, the model, and its template."""
    if not target.lower().endswith(RECIPES):
        data, root, divide = Data(sources=(Source(path=target),)), Path.cwd(), not_at_all
        model, template, objective = NANO, None, "auto"
    else:
        from sartor.recipe.load import load

        loaded = load(target)
        data, root, divide = loaded.recipe.data, loaded.root, by_shares
        model, template = loaded.recipe.base.model, loaded.recipe.base.template
        wanted = loaded.recipe.train.objective
        objective = "auto" if wanted == "auto" else wanted.name
    audit = examine(data, root=root, folder=folder, emit=emit, divide=divide)
    if audit.splits is None:
        raise_errors(DataError, audit.findings.errors)
    revision = None if model == NANO else loaded.recipe.base.revision
    base = resolve(model, root, revision=revision)
    if audit.splits is not None and audit.splits.divided:
        inputs = _inputs(audit, base, objective)
        if inputs is not None:
            return audit, inputs, model, "read as a whole, without a template"
    renderer = renderer_for(
        base,
        template=root / template if template else None,
        loss_on=data.loss_on,
        reasoning=data.reasoning,
        thinks=data.reasoning != "none" and any(map(has_reasoning, audit.dataset)),
    )
    return audit, renderer, model, renderer.template.label


def _inputs(audit: Audit, base: ModelFolder, objective: str) -> Inputs | None:
    """How rows are read whose label is learnt at a head; None where answers are learnt."""
    kind = audit.dataset[0].kind
    name = usual_objective(audit.task, kind_of(base), kind)[0] if objective == "auto" else objective
    traits: Traits = registry.component("objective", name).TRAITS
    assert audit.splits is not None
    targets = targets_of(traits, audit.dataset, audit.splits)
    home = base.path if (base.path / "tokenizer.json").exists() else base.root.path
    return None if targets is None else inputs_for(base, Vocabulary.load(home), targets)


def _chosen(audit: Audit, target: str, rows: int, row: int | None, split: str | None) -> Sequence[int]:
    known: Sequence[int] = range(len(audit.dataset))
    if split is not None:
        if audit.splits is None or not audit.splits.divided:
            fix = "name a recipe; a data file alone is not divided"
            raise DataError(Problem("D159", f"there is no {split} part", file=target, fix=fix))
        known = audit.splits.indices(split).tolist()
    if row is None:
        return known[:rows]
    if row not in known:
        where = f"the {split} part" if split else target
        what = f"there is no row {row} in {where}; it has {len(known):,} rows"
        raise DataError(Problem("D176", what, file=target, fix="rows are counted from 0"))
    return [row]


def _views(audit: Audit, renderer: Renderer | Inputs, index: int) -> Iterator[Shown]:
    row = audit.dataset[index]
    part = None
    if audit.splits is not None and audit.splits.divided:
        part = dict(enumerate(PARTS)).get(int(audit.splits.part[index]), "left out")
    (result,) = renderer.render_many([(index, row)])
    if isinstance(result, Problem):
        yield Shown(index, row.origin.file, row.origin.line, part, 0, 0, (), str(result))
        return
    names: list[str | None] = [_called(answer) for answer in candidates(row) or ()]
    learnt = f"learnt at the head: {row.answer_text()}" if isinstance(renderer, Inputs) else None
    names = names or [learnt] * len(result.rendered)
    for rendered, name in zip(result.rendered, names, strict=True):
        shown = tuple(pieces(renderer, rendered))
        counts = len(rendered), rendered.supervised
        yield Shown(index, row.origin.file, row.origin.line, part, *counts, shown, answer=name)


def _called(answer: Candidate) -> str:
    """An answer to compare by its name, and how good it is."""
    score, *margin = answer.labels
    return f"{answer.name}: {score:g}" + "".join(f", margin {value:g}" for value in margin)
