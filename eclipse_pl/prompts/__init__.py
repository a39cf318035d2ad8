"""The prompts of a benchmark, and what an image of each must show."""
