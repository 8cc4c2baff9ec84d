"""Labelling and ranking in the terminal: draws the row, reads a key, writes the answer down."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sartor.cli._keyboard import BACKSPACE, END, ENTER, Keyboard
from sartor.console import printable, terminal
from sartor.data.annotate.guidelines import Block, blocks
from sartor.data.annotate.keys import Placing, found
from sartor.data.annotate.session import Refused, Session, View

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

WIDE = 100
"""Columns from which the guidelines stand beside the row."""
HINTS = "s skip   u undo   n note   f flag   "


def annotate(session: Session, guidelines: str) -> None:
    """Ask until nothing is left or the annotator quits. Every answer is on the disk before the next row is drawn."""
    _Screen(session, blocks(guidelines)).run()


class _Screen:
    """What is on the screen beyond the session: what is half done, and a message."""

    def __init__(self, session: Session, guide: list[Block]) -> None:
        self.session, self.guide, self.shown = session, guide, bool(guide)
        self.console = terminal(sys.stderr)
        self.message = ""
        self.keys = session.keys
        self.placing = Placing(0)

    def run(self) -> None:
        """Read keys until the end."""
        with Keyboard() as keyboard:
            row = None
            while (item := self.session.item) is not None:
                if item.key != row:
                    row, self.placing = item.key, Placing(len(item.answers))
                if keyboard.live:
                    self.draw(self.session.view())
                self.message = ""
                key = keyboard.key()
                if key in ("q", END):
                    return
                try:
                    self.press(key, item.key, keyboard)
                except Refused as refusal:
                    self.message = str(refusal)
            if keyboard.live:
                self.console.clear()
            self.console.print(" nothing is left to ask", style="green")

    def press(self, key: str, row: str, keyboard: Keyboard) -> None:
        """Do what a key stands for. Raises Refused."""
        match key:
            case "s":
                self.session.skip(row)
            case "u":
                self.session.undo()
            case "f":
                self.session.flag(row)
            case "n":
                self.session.note(row, self.line(keyboard, "note"))
            case "g":
                self.shown = not self.shown
            case _ if self.session.job.kind == "rank":
                self.place(key, row)
            case "/":
                self.find(row, self.line(keyboard, "name of the label"))
            case _ if key == ENTER:
                if (suggestion := self.session.suggestion(row)) is not None:
                    self.session.label(row, suggestion.label)
            case _ if key in self.keys:
                self.session.label(row, self.keys[key])

    def line(self, keyboard: Keyboard, what: str) -> str:
        """A line that is typed."""
        if keyboard.live:
            self.console.print(f" {what}, then Enter: ", end="")
        return keyboard.line()

    def find(self, row: str, typed: str) -> None:
        """Answer with the only label that matches."""
        hits = found(self.session.job.labels, typed) if typed.strip() else []
        if len(hits) != 1:
            raise Refused(f"{len(hits)} labels match: {', '.join(hits[:8])}" if hits else "no label matches")
        self.session.label(row, hits[0])

    def place(self, key: str, row: str) -> None:
        """Put an answer in its place; Enter ends."""
        if key == "=":
            self.placing.tie()
        elif key == BACKSPACE:
            self.placing.back()
        elif key == ENTER and self.placing.complete:
            self.session.rank(row, self.placing.ranking(self.session.view().shuffle))
        elif key.isdecimal():
            self.placing.put(int(key) - 1)

    def draw(self, view: View) -> None:
        """The whole screen anew."""
        from rich.table import Table

        self.console.clear()
        self.console.print(self.head(view))
        self.console.print()
        if self.guide and self.shown and self.console.width >= WIDE:
            grid = Table.grid(expand=True, padding=(0, 2))
            grid.add_column(ratio=2)
            grid.add_column(ratio=1)
            grid.add_row(self.row(view), self.guidelines())
            self.console.print(grid)
        else:
            self.console.print(self.row(view))
            if self.guide and self.shown:
                self.console.print()
                self.console.print(self.guidelines())
        self.console.print()
        self.console.print(self.choices(view))
        more = "g guidelines   " if self.guide else ""
        self.console.print(f" {HINTS}{more}q quit", style="dim")
        if self.message:
            self.console.print(f" {printable(self.message)}", style="yellow")

    def head(self, view: View) -> Text:
        """Who, how far, and which row."""
        from rich.text import Text

        assert view.item is not None
        line = Text(f" {self.session.annotator}", "bold")
        line.append(f"   {view.done:,} done   {view.left:,} left", "dim")
        if view.skipped:
            line.append(f"   {view.skipped:,} skipped", "dim")
        where = f"{view.item.file}:{view.item.line}" if view.item.file else f"row {view.item.line}"
        line.append(printable(f"   {where}"), "dim")
        if view.flagged:
            line.append("   flagged", "yellow")
        if view.note:
            line.append(printable(f"   note: {view.note}"), "yellow")
        return line

    def row(self, view: View) -> RenderableType:
        """What is judged; in adjudication with what was said of it."""
        from rich.padding import Padding
        from rich.text import Text

        assert view.item is not None
        body = Text()
        for turn in view.item.turns:
            if turn.role:
                body.append(f"{printable(turn.role)}\n", "cyan")
            body.append(f"{printable(turn.text)}\n")
        for place, number in enumerate(view.shuffle):
            sign = str(place + 1) if self.session.job.kind == "rank" else "AB"[place] if len(view.shuffle) > 1 else ">"
            body.append(f"\n{sign} ", "bold cyan")
            body.append(f"{printable(view.item.answers[number].text) or '(empty)'}\n")
        for name, label in view.votes:
            body.append(printable(f"\n{name}: "), "dim")
            body.append(printable(label), "bold")
        return Padding(body, (0, 1))

    def guidelines(self) -> Text:
        """The guidelines as plain text."""
        from rich.text import Text

        body = Text()
        for block in self.guide:
            mark = "- " if block.kind == "item" else ""
            body.append(f"{mark}{printable(block.text)}\n", "bold" if block.kind == "heading" else "dim")
        return body

    def choices(self, view: View) -> Text:
        """Labels with their keys and the suggestion, or the order so far."""
        from rich.text import Text

        if self.session.job.kind == "rank":
            return self.order()
        line = Text(f" {printable(view.question)}\n " if view.question else " ")
        of = {label: key for key, label in self.keys.items()}
        for label in self.session.job.labels:
            if label in of:
                line.append(f"{of[label]} ", "bold cyan")
            line.append(printable(label), "" if label in of else "dim")
            line.append("   ")
        if len(of) < len(self.session.job.labels):
            line.append("/ find by name", "dim")
        if view.suggestion is not None:
            line.append(f"\n the model says {printable(view.suggestion.label)} ", "magenta")
            line.append(f"({view.suggestion.probability:.0%})   Enter takes it", "dim")
        return line

    def order(self) -> Text:
        """worst  3 < 1 = 2"""
        from rich.text import Text

        line = Text(" worst first:  ", "dim")
        said = " < ".join(" = ".join(str(place + 1) for place in level) for level in self.placing.levels)
        line.append(said + (" =" if self.placing.tied else ""), "bold cyan")
        hint = "   Enter keeps this order" if self.placing.complete else "   = as good as the last"
        line.append(hint + "   Backspace takes one back", "dim")
        return line
