"""Checks look at all rows together and say what a careful reader would want to know before training on them."""
