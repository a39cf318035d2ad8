"""Image embedding -> picture."""
