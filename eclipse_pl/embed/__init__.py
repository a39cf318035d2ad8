"""Raw pairs -> encoder -> shards."""
