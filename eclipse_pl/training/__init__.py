"""Changes to Lightning's Trainer for runs of this project."""
