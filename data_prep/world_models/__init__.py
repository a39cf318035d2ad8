"""Trains the CLIP and the decoder of the world that the package ships."""
