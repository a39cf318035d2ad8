"""Picture and prompt -> number."""
