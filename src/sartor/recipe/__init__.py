"""What the user asked for: the schema of a recipe, reading it with exact locations, overrides, and the reasons of automatic values."""
