"""Embedding shards, the order of their pairs, and the Lightning data module for both."""
