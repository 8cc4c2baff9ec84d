"""Single key presses from a terminal; from a pipe, characters, so that a session can be scripted."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Self

ESCAPE, ENTER, BACKSPACE, END = "\x1b", "\n", "\x7f", ""
_PATIENCE = 0.05


class Keyboard:
    """The standard input, key by key; the terminal is as it was when the block ends."""

    def __init__(self) -> None:
        self._file = sys.stdin.fileno()
        self.live = os.isatty(self._file)
        """Whether somebody sits there."""
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        if self.live:
            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def key(self) -> str:
        """The next key; arrows and their like are passed over. END when the input has ended."""
        while True:
            character = self._character()
            if character == ESCAPE and self.live and select.select([self._file], [], [], _PATIENCE)[0]:
                os.read(self._file, 16)
                continue
            return {"\r": ENTER, "\b": BACKSPACE}.get(character, character)

    def line(self) -> str:
        """A whole line, echoed by the terminal as it is typed."""
        if self.live:
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
        try:
            return self._line()
        finally:
            if self.live:
                tty.setcbreak(self._file)

    def _line(self) -> str:
        typed = ""
        while (character := self._character()) not in ("\n", END):
            typed += character
        return typed

    def _character(self) -> str:
        """One character of UTF-8; bytes that are none are passed over."""
        held = b""
        while byte := os.read(self._file, 1):
            held += byte
            try:
                return held.decode()
            except UnicodeDecodeError:
                if len(held) == 4:
                    held = b""
        return END
