"""What this host's container runtime is downloading now."""
