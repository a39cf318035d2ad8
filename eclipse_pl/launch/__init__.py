"""Many tasks: on this machine, or on a Ray cluster."""
