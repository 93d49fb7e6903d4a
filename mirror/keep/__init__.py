"""What of this host's runtime is kept beside it, because the runtime does not keep it."""
