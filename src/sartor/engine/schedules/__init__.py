"""Learning rate over time. Each file gives `Options` and `factor(step, steps, options)`, the share of the peak rate."""
