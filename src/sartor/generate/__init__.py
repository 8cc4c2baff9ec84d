"""Text out of a model, local or remote: implementations of the `TextGenerator` protocol."""
