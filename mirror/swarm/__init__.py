"""Everybody who moves one digest now, seen from this host: the decisions of one download. Pure."""
