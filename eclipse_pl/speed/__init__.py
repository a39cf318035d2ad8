"""Our code against its peers on this machine."""
