"""A trained prior for other people: exported, with a model card made from the run's own files, in a folder or on the hub."""
