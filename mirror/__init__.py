"""Peili's application: the daemon, its stores, its registry and peer HTTP, and the command line."""
