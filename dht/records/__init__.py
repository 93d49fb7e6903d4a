"""Who provides what, kept for others. Pure."""
