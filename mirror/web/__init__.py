"""What every HTTP listener of the daemon shares: sockets, bodies, error answers."""
