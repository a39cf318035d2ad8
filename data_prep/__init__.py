"""Data preparation: ``python -m data_prep <command>``, one file a command."""
