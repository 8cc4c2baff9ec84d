"""Checks look at all rows together and say what a careful reader would want to know before training on them.

A check has `Options` and one of two functions:

    def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]: ...
        for what the index, the bytes or some rows tell

    def watch(dataset: Dataset, splits: Splits) -> Watcher: ...
        for what every row has to be read for; all watchers see each row together (`sartor/data/watching.py`)
"""
