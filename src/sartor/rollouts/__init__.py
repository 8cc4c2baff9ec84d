"""The policy writes its own data: answers to prompts, what they are worth, and batches of them that the loop takes like any others."""
