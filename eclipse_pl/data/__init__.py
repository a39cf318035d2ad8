"""Embedding shards, the order in which they are read, and the Lightning data module around both."""
