"""What a run looks like: lines in a log, a panel on a terminal."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sartor.console import (
    BLOCKS,
    Lines,
    Panel,
    Progress,
    coloured,
    display,
    duration,
    printable,
    size,
    spark,
    table,
    terminal,
)
from sartor.events import Event, Finished, Noted, Progressed, Saved, Stage, Started, Stepped, Validated


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def step(number: int, loss: float = 1.5) -> Stepped:
    return Stepped(number, 189, 0.5, loss, 1e-3, 0.7, 1000, 400, 2.0, 2_100_000_000)


def a_run(clock: Clock) -> list[tuple[float, Event]]:
    events: list[tuple[float, Event]] = [
        (0, Stage("data", "reading tickets.jsonl")),
        (1, Progressed("rows", 1000, 5000)),
        (1, Stage("train")),
        (0, Started(0, 189, 3.0, 10, 100)),
    ]
    events += [(2, step(number, 3 - number / 40)) for number in range(1, 61)]
    events += [
        (1, Validated(60, 1.0, {"loss": 1.51}, 1.42)),
        (0, Saved(60, "x", best=True)),
        (0, Noted("warning", "N402", "loss 8.1 is high", step=61)),
        (1, Finished(140, 100, "validation has risen three times", 140_000, 50_000, 280.0, 2_100_000_000)),
    ]
    return events


def play(screen: Lines | Panel, clock: Clock) -> None:
    with screen:
        for wait, event in a_run(clock):
            clock.now += wait
            screen.see(event)


def test_before_the_first_step_there_is_no_training_loss() -> None:
    stream = io.StringIO()
    with Lines(stream, Clock()) as screen:
        screen.see(Started(0, 189, 3.0, 10, 100))
        screen.see(Validated(0, 0.0, {"loss": 1.51}, float("nan")))
    assert stream.getvalue() == " step 0/189   validation 1.51   best\n"


def test_log_lines_are_throttled_and_say_what_matters() -> None:
    clock, stream = Clock(), io.StringIO()
    play(Lines(stream, clock), clock)
    lines = stream.getvalue().splitlines()
    assert lines[0] == " data: reading tickets.jsonl"
    assert " train" in lines
    steps = [line for line in lines if line.startswith(" step") and "warning" not in line]
    assert len(steps) == 13  # 60 steps of two seconds, one line per ten, and the validation
    assert steps[-1] == " step 60/189   4:20 left   500 tok/s   2.1 GB   train 1.42   validation 1.51   best"
    assert " step 61: warning N402: loss 8.1 is high" in lines
    assert lines[-1] == (
        " stopped at step 140: validation has risen three times. Kept step 100. 140,000 tokens in 4:40."
    )


def test_the_panel_shows_bar_numbers_and_curves() -> None:
    clock, stream = Clock(), Terminal()
    panel = Panel(stream, clock)
    play(panel, clock)
    picture = stream.getvalue()
    for said in ("data", "step 60/189", "4:2", "500 tok/s", "2.1 GB", "validation 1.51", "best at 60", "N402"):
        assert said in picture, said
    assert "█" in picture
    assert "stopped at step 140" in picture


def test_a_panel_without_a_unicode_terminal_draws_in_ascii() -> None:
    class Old(Terminal):
        encoding = "ascii"

    clock, stream = Clock(), Old()
    play(Panel(stream, clock), clock)
    assert stream.getvalue().isascii()


def test_display_fits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display(Terminal()), Panel)
    assert isinstance(display(io.StringIO()), Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display(Terminal()), Lines)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert coloured(Terminal())
    stream = Terminal()
    terminal(stream).print("red", style="red")
    assert "\x1b[" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())
    stream = Terminal()
    terminal(stream).print("red", style="red")
    assert "\x1b[3" not in stream.getvalue()


def test_time_left_counts_from_where_the_run_resumed() -> None:
    progress = Progress()
    progress.see(Started(100, 189, 3.0, 1, 1), 0.0)
    for number in range(101, 111):
        progress.see(step(number), 2.0 * (number - 100))
    assert progress.left(20.0) == "2:38 left"


def test_the_best_step_is_the_lowest_validation_unless_a_saved_one_says_otherwise() -> None:
    progress = Progress()
    for number, loss in ((10, 2.0), (20, 1.5), (30, 1.7)):
        progress.see(Validated(number, 1.0, {"loss": loss}, 1.0), 0.0)
    assert progress.best == 20
    progress.see(Saved(30, "x", best=True), 0.0)
    assert progress.best == 30


@example([1.7e308, -1.7e308], 2)
@given(st.lists(st.floats(), max_size=300), st.integers(1, 40))
def test_a_spark_never_fails_and_never_grows(values: list[float], width: int) -> None:
    drawn = spark(values, width)
    assert len(drawn) <= width
    assert set(drawn) <= set(BLOCKS)


def test_a_spark_falls_as_its_values_fall() -> None:
    assert spark([8, 7, 6, 5, 4, 3, 2, 1], 8) == BLOCKS[::-1]
    assert len(spark(list(range(100)), 8)) == 8
    assert spark([float("nan")], 8) == ""


def test_numbers_for_people() -> None:
    assert [duration(0), duration(370), duration(3723)] == ["0:00", "6:10", "1:02:03"]
    assert [size(640e6), size(2.1e9)] == ["640 MB", "2.1 GB"]


def test_printable_keeps_language_and_escapes_control() -> None:
    assert printable("naïve 漢字\n\t") == "naïve 漢字\n\t"
    assert printable("\x1b[31m\u202e\ud800\r") == "\\u001b[31m\\u202e\\ud800\\u000d"


def test_a_table_is_aligned_and_holds_text_as_it_is() -> None:
    stream = io.StringIO()
    table(terminal(stream), ["metric", "base", "tuned"], [["json [valid]", "12 %", "99 %"], ["f1", "0.08", "0.91"]])
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == ["metric        base  tuned", "json [valid]  12 %   99 %", "f1            0.08   0.91"]
