"""Update rules. Each file gives `Options`, `STATE_BYTES`, `ELEMENTWISE`, `learning_rate(adamw, options)` and `build(groups, options, learning_rate)`.

`groups` come from `engine.updater.parameter_groups`; a build keeps their keys, because the updater sets `lr` in them before
every step to the scheduled rate times the group's `rate`. All state of a parameter must lie in `state[parameter]` as plain
tensors that share no memory: a checkpoint holds nothing else. `STATE_BYTES` is how many bytes of state a parameter of a matrix
has, `TABLE_STATE_BYTES` one of an embedding where that differs; `learning_rate` says, from the rate that AdamW would take, which
one this rule takes, and why. `ELEMENTWISE` rules move every number by itself, so that the rows of a matrix may lie in different
processes.
"""
