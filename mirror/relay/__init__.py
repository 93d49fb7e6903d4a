"""The daemon itself fetching from the origin, for clients that cannot."""
