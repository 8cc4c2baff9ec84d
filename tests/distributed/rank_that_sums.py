"""A rank that only sums: `RANK=1 WORLD_SIZE=3 ... python rank_that_sums.py STEPS`. Prints each step it has taken."""

from __future__ import annotations

import os
import sys
import time

import torch

from sartor.engine.parallel.heart import Heart, limit, naming
from sartor.engine.parallel.meeting import Meeting
from sartor.engine.parallel.world import end, join, leave
from sartor.errors import SartorError

meeting = Meeting.reach(os.environ)
meeting.arrive()
try:
    with meeting.stay(), Heart(meeting, limit(os.environ)) as heart:
        heart.listen()
        meeting.gather(patience=60, check=heart.check)
        with naming(heart):
            world = join(os.environ)
            for step in range(1, int(sys.argv[1]) + 1):
                total = torch.ones(1)
                world.sum_([total])
                assert total == world.size
                heart.at(step)
                print(step, flush=True)
                time.sleep(0.02)
            leave()
except SartorError as error:
    sys.stderr.write(f"{error}\n")
    end(error.exit_code)
meeting.disperse(patience=10)
