"""Rows before tokens: reads a user's files, understands their shape, checks and divides them, and remembers where each row came from."""
