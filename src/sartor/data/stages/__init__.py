"""Changes or removes rows. One file is one stage, and its name is its key in the recipe's `data.clean`.

A stage has `Options` and one of two functions. What it returns is all it can do to a row, so nothing is changed or left out
unseen: the caller writes down every `Drop`, `Suggestion` and changed row (`sartor/data/ledger.py`).

    def cleaner(options: Options) -> Cleaner: ...
        for stages that look at one row at a time; the same row comes out of the same row, whatever stands around it

    def decide(dataset: Dataset, roles: Roles, options: Options, seen: Seen) -> Iterator[tuple[int, Outcome]]: ...
        for stages that have to see all rows; only the rows that do not stay as they are, in ascending order. `roles` holds
        the part that the user gave each row to (1 validation, 2 test), `seen` is told how many rows have been looked at
"""
