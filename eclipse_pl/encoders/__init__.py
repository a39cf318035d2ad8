"""Encoders: from images and captions to a CLIP space."""
