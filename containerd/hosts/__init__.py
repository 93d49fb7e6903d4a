"""Writes and takes back entries in containerd's registry configuration (the hosts.toml files below
certs.d)."""
