"""Captions to generate, and what must be in an image of each."""
