"""Turns a finished run into what others load: model folders, cards and certificates."""
