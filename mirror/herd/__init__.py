"""What this host does while it and others move one digest: the ladder, the swarm, and the hands that carry both out."""
