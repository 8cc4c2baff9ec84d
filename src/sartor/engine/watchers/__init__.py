"""They look at events and may ask the loop to stop or to keep a step. Each file gives `build(...)` of a `Watcher`."""
