"""How the demo ends when it does not end well."""

from __future__ import annotations

from mirror.errors import MirrorError


class DemoFailed(MirrorError):
    """The demo could not be run to its end, or a pull in it failed. Exit code 1."""


class PullFailed(DemoFailed):
    """One host's pull ended without the whole image."""
