"""Whom to ask for the providers of a key. Pure."""
