import os

# One thread here and in every process that a test starts: equal sums, and no threads waiting for each other on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from hypothesis import settings

torch.set_num_threads(1)

# A deadline per example measures how busy the machine is.
settings.register_profile("eclipse_pl", deadline=None)
settings.load_profile("eclipse_pl")
