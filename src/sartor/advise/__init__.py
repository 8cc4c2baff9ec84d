"""Chooses values for the user, each with the reason: hardware, memory, learning rate, batch, epochs."""
