"""The registry HTTP API as containerd speaks it."""
