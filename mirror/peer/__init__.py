"""HTTP between daemons: proof of membership, the serving side, the asking side."""
