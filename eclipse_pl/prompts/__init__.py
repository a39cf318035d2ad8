"""Captions to paint, and what must be in a picture of each."""
