"""What is minimised: pure functions of a policy and a batch that return a sum and what to divide it by.

An objective is a file with `TRAITS` (what it reads and needs), `Options`, and `loss(policy, batch, options, **roles) -> Loss`.
"""
