"""Intervals at 95 %: over seeds of training, and over groups of rows that resemble each other."""
