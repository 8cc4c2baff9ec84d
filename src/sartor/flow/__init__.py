"""The verbs, one file each: they connect rooms and hold no algorithms."""
