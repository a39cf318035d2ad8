"""Comparisons of runs: what can be concluded from them, and what cannot."""
