"""What keeps a daemon from finding others at all."""

from __future__ import annotations

from mirror.errors import MirrorError


class DiscoveryFailed(MirrorError):
    """The DHT cannot begin: its UDP address is taken."""
