"""What can go wrong in the DHT. Nothing the network does is raised: it is counted."""

from __future__ import annotations


class DHTError(Exception):
    """Base of everything this package raises."""


class SettingsInvalid(DHTError):
    """A setting contradicts another or is out of range."""


class BindFailed(DHTError):
    """A UDP address cannot be bound."""


class FrameInvalid(DHTError):
    """A frame is not one of ours. The text is a reason for a counter, never for a log line per datagram."""


class StateDamaged(DHTError):
    """A saved file does not hold what we save."""
