"""What to tell whom about the own keys, and when. Pure."""
