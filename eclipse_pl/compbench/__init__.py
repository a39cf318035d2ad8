"""Prompts and seeds -> painter -> judges -> scorecard."""
