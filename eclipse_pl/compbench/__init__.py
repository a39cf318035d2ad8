"""Benchmarks: prompts and seeds -> text-to-image model -> scorers -> scorecard."""
