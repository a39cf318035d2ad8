"""Metrics of image embeddings, without a decoder."""
