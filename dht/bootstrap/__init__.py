"""Where the first addresses of other nodes come from."""
