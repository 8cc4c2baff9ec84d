"""`python -m sartor` is the same as `sartor`."""

from __future__ import annotations

from sartor.cli.main import main

main()
