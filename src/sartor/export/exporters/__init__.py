"""Forms a model is handed on in: one file each, and its name is what `sartor export --as` and the recipe call it."""
