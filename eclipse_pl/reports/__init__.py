"""Runs beside each other: what can be concluded from them, and what cannot."""
