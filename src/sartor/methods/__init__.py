"""Which weights move: a method attaches to a model, names its trainable parameters, and saves them in the ecosystem's format."""
