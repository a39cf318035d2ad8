"""Measure, time, save and stop a training."""
