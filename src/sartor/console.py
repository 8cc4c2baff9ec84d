"""How a run looks while it runs: events in, lines on stderr out; and the few helpers everything printed goes through.

`display()` picks a live panel for a terminal and plain lines, at most one every ten seconds, for logs. rich is imported
only once something is really drawn.
"""

from __future__ import annotations

import math
import os
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from sartor.events import Event, Finished, Noted, Progressed, Saved, Stage, Started, Stepped, Validated

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = "_.-=+*#@"
LOG_SECONDS = 10.0
DRAW_SECONDS = 0.2
KEPT = "\n\t\u200c\u200d"
"""Control characters that belong to text: a new line, a tab, and the joiners of Persian, Hindi and emoji."""
STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def coloured(stream: TextIO) -> bool:
    """Whether escape codes are welcome: a terminal, and neither NO_COLOR nor TERM=dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal(stream: TextIO) -> Console:
    """A rich console that prints text as it is; 120 columns wide where nobody says otherwise."""
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else 120
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def printable(text: str) -> str:
    """The text with control and direction-changing characters as visible escapes, so that data cannot steer a terminal."""
    return "".join(character if _harmless(character) else f"\\u{ord(character):04x}" for character in text)


def _harmless(character: str) -> bool:
    return character in KEPT or character.isprintable() or unicodedata.category(character) not in ("Cc", "Cf", "Cs")


def table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table without frames: the first column to the left, the others to the right."""
    from rich.table import Table

    body = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(header):
        body.add_column(name, justify="right" if index else "left", header_style="dim", overflow="fold")
    for row in rows:
        body.add_row(*(printable(cell) for cell in row))
    console.print(body)


def spark(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """A curve of at most `width` characters; a longer one is averaged, values that are not finite are left out."""
    finite = [value for value in values if abs(value) != float("inf") and value == value]
    if not finite:
        return ""
    width = min(width, len(finite))
    edges = [round(index * len(finite) / width) for index in range(width + 1)]
    means = [sum(value / (b - a) for value in finite[a:b]) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    top, spread = len(blocks) - 1, high / 2 - low / 2
    shares = ((mean / 2 - low / 2) / spread if spread else 0.0 for mean in means)
    return "".join(blocks[round(share * top)] for share in shares)


def duration(seconds: float) -> str:
    """6:10 or 1:02:03."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(number: float) -> str:
    """Bytes as 640 MB or 2.1 GB."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def about(seconds: float) -> str:
    """A time with no more digits than a prediction deserves."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{_rounded(seconds):g} s"
    if seconds < 90 * 60:
        return f"{_rounded(seconds / 60):g} min"
    return f"{_rounded(seconds / 3600):g} h" if seconds < 48 * 3600 else f"{_rounded(seconds / 86400):g} days"


def _rounded(value: float) -> float:
    """One digit, or two where the first is 1 or 2."""
    digits = 10.0 ** math.floor(math.log10(value))
    step = digits / 2 if value / digits < 3 else digits
    return max(round(value / step) * step, 0.5)


REWARD = "reward"
"""What validation tells of a policy that writes its own data, and what the verdict is about where rows have no answers."""


@dataclass(slots=True)
class Progress:
    """What the events so far add up to."""

    stage: str = ""
    work: str = ""
    step: int = 0
    steps: int = 0
    first: int = 0
    began: float = 0.0
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int | None = None
    lowest: float = float("inf")
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=32))
    memory: int = 0
    rewarded: bool = False
    """Whether `validation` holds rewards, which are to rise, in place of losses."""

    @property
    def measured(self) -> str:
        """What validation tells, in words."""
        return f"validation {REWARD}" if self.rewarded else "validation"

    def see(self, event: Event, now: float) -> None:
        """Take in one event that happened at `now` (seconds on any steady clock)."""
        match event:
            case Stage():
                self.stage, self.work, self.steps = event.name, event.detail, 0
            case Started():
                self.step = self.first = event.step
                self.steps, self.began = event.steps, now
                self.train, self.validation, self.best, self.lowest = [], [], None, float("inf")
                self.recent.clear()
            case Stepped():
                self.step, self.steps, self.memory = event.step, event.steps, event.memory_bytes
                self.train.append(event.loss)
                self.recent.append((event.tokens, event.seconds))
            case Validated():
                loss = event.metrics.get("loss", float("nan"))
                self.validation.append(event.metrics.get(REWARD, loss))
                self.rewarded = REWARD in event.metrics
                if loss < self.lowest:
                    self.lowest, self.best = loss, event.step
            case Saved() if event.best:
                self.best = event.step
            case Progressed():
                total = f"/{event.total:,}" if event.total else ""
                self.work = f"{event.task} {event.done:,}{total}"

    def pace(self) -> str:
        """Tokens per second over the last steps."""
        seconds = sum(seconds for _, seconds in self.recent)
        return f"{sum(tokens for tokens, _ in self.recent) / seconds:,.0f} tok/s" if seconds else ""

    def left(self, now: float) -> str:
        """Time to the last step at the speed so far, validations included."""
        taken = self.step - self.first
        return f"{duration((now - self.began) / taken * (self.steps - self.step))} left" if taken else ""

    def numbers(self, now: float) -> str:
        """step 63/189   6:10 left   812 tok/s   2.1 GB"""
        memory = size(self.memory) if self.memory else ""
        parts = (f"step {self.step:,}/{self.steps:,}", self.left(now), self.pace(), memory)
        return "   ".join(part for part in parts if part)

    def losses(self, width: int, blocks: str) -> str:
        """train 1.42 ▇▆▅▄    validation 1.51 ▇▆▅   best at 60"""
        parts = []
        if self.train:
            parts.append(f"train {_smooth(self.train):.4g} {spark(self.train, width, blocks)}".rstrip())
        if self.validation:
            parts.append(f"{self.measured} {self.validation[-1]:.4g} {spark(self.validation, width, blocks)}".rstrip())
        text = "    ".join(parts)
        return text if self.best is None else f"{text}   best at {self.best:,}"


def _smooth(losses: Sequence[float]) -> float:
    last = losses[-10:]
    return sum(last) / len(last)


def _verdict(event: Finished) -> str:
    took = f"{event.tokens:,} tokens in {duration(event.seconds)}"
    kept = "" if event.best_step == event.step else f" Kept step {event.best_step:,}."
    return f"stopped at step {event.step:,}: {event.reason.rstrip('.')}.{kept} {took}."


def _note(event: Noted) -> str:
    at = f"step {event.step:,}: " if event.step is not None else ""
    return printable(f"{at}{event.level} {event.code}: {event.message}")


class Display(Protocol):
    """Shows events; a context manager, so that a terminal is left clean whatever happens."""

    def see(self, event: Event) -> None:
        """Show one event; this is the `emit` that flows are given."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Lines:
    """Plain lines for logs and pipes: what happens once at once, what repeats every ten seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.progress = Progress()
        self.printed = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.flush()

    def see(self, event: Event) -> None:
        """Print a line if this event deserves one now."""
        now = self.clock()
        self.progress.see(event, now)
        match event:
            case Stage():
                self._print(f"{event.name}: {printable(event.detail)}" if event.detail else event.name, now)
            case Validated():
                trained = f"train {event.train_loss:.4g}   " if event.step else ""
                losses = f"{trained}{self.progress.measured} {self.progress.validation[-1]:.4g}"
                best = "   best" if self.progress.best == event.step else ""
                self._print(f"{self.progress.numbers(now)}   {losses}{best}", now)
            case Noted():
                self._print(_note(event), now)
            case Finished():
                self._print(_verdict(event), now)
            case Stepped() if now - self.printed >= LOG_SECONDS:
                self._print(f"{self.progress.numbers(now)}   train {_smooth(self.progress.train):.4g}", now)
            case Progressed() if now - self.printed >= LOG_SECONDS:
                self._print(printable(self.progress.work), now)

    def _print(self, text: str, now: float) -> None:
        self.stream.write(f" {text}\n")
        self.stream.flush()
        self.printed = now


class Panel:
    """A terminal's view: one bar, its numbers and the two loss curves, drawn in place; notes scroll by above it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = terminal(stream), clock
        self.blocks = BLOCKS if (stream.encoding or "").lower().replace("-", "") == "utf8" else PLAIN_BLOCKS
        self.progress = Progress()
        self.drawn = -DRAW_SECONDS
        self.live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def see(self, event: Event) -> None:
        """Draw the panel anew, at most five times a second, and print what shall stay."""
        now = self.clock()
        self.progress.see(event, now)
        match event:
            case Noted():
                self._keep(_note(event), STYLES.get(event.level, ""))
            case Finished():
                self._keep(self.progress.losses(self._width(), self.blocks))
                self._keep(_verdict(event))
                self.progress.steps, self.progress.work = 0, ""
        if self.live and (now - self.drawn >= DRAW_SECONDS or isinstance(event, Finished | Stage)):
            self.live.update(self.picture(now), refresh=True)
            self.drawn = now

    def picture(self, now: float) -> Text:
        """What the panel shows now."""
        from rich.text import Text

        picture = Text(no_wrap=True, overflow="ellipsis")
        if not self.progress.steps:
            return picture.append(f" {self.progress.stage}", "bold").append(f"   {printable(self.progress.work)}")
        share = self.progress.step / self.progress.steps
        full = round(share * 24)
        line = "━" if self.blocks is BLOCKS else "="
        picture.append(" " + line * full, "green").append(line * (24 - full), "bright_black")
        picture.append(f" {self.progress.numbers(now)}")
        losses = self.progress.losses(self._width(), self.blocks)
        return picture.append(f"\n {losses}") if losses else picture

    def _keep(self, text: str, style: str = "") -> None:
        self.console.print(f" {text}", style=style, soft_wrap=True)

    def _width(self) -> int:
        return max(8, min(32, (self.console.width - 50) // 2))


def display(stream: TextIO | None = None) -> Display:
    """The display for a stream (stderr): a live panel on a terminal, plain lines elsewhere."""
    stream = stream or sys.stderr
    return Panel(stream) if stream.isatty() and os.environ.get("TERM") != "dumb" else Lines(stream)
