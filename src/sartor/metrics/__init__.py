"""Judges what a model answered against what was right: one file per metric, each as statistics that add up over rows."""
