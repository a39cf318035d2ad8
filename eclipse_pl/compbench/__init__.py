"""Prompts and seeds -> text-to-image model -> scorers -> scorecard."""
