"""Prompt -> picture, whatever is in between."""
