import os

# One thread here and in every process that a test starts: equal sums, and no threads waiting for each other on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

torch.set_num_threads(1)
