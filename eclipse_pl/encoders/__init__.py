"""Images and captions into a CLIP space."""
