"""The commands of peili."""
