"""What moves one digest to this host: one download per digest, readers on it, sources under it."""
