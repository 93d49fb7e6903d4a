"""What can go wrong with a plain host."""

from __future__ import annotations

from mirror.errors import MirrorError


class HostError(MirrorError):
    """This host cannot be made a mirror, or not be given back as it was."""
