"""Answers requests: an OpenAI-compatible server in which one thread owns the models and a gate stands before every route."""
