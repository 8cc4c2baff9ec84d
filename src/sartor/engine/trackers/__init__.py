"""They listen to events and send them elsewhere. Each file gives `Options` and `build(run, options)` of a `Tracker`."""
