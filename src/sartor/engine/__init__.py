"""How a model is trained: one loop, its state, optimisers, schedules, watchers and trackers."""
