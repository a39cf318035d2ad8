"""What Lightning's Trainer does otherwise in a run of ours."""
