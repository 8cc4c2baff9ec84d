"""Update rules. Each file gives `Options` and `build(groups, options)`."""
