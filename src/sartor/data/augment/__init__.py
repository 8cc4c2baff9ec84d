"""Makes further training rows from the rows there are. One file is one way, and its name is its key in the recipe's `data.augment`.

A way has `Options` and one function. It is given training rows alone, each with a random stream of its own, and gives back
new rows, each beside the one it was made from; names, groups, splits and duplicates are the caller's work
(`sartor/data/augmentation.py`).

    def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[tuple[Seeded, Row]]: ...

A way that reads files of the user has `files(options, root)`, so that a change of them is noticed. One that asks models does
so through `bench.answers` alone; `NotAsked` may pass through it.
"""
