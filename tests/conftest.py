import os

# One thread here and in every process that a test starts: equal sums, and no threads waiting for each other on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

torch.set_num_threads(1)

# The first example of a test pays for imports and caches, on a busy machine many times over: how long one takes says nothing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
