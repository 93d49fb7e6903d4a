"""What can be wrong with an archive, or with what shall go into one."""

from __future__ import annotations

from mirror.errors import MirrorError


class ArchiveInvalid(MirrorError):
    """The archive cannot be used: damaged, cut off, of another kind, or made to do harm. Nothing is imported."""


class ImageNameInvalid(MirrorError):
    """An image has no name, one that nobody can pull, or one that another image has, too. Nothing is imported."""


class ImageAbsent(MirrorError):
    """An image, or a part of it, is not on this host. Nothing is exported."""


class ImportFailed(MirrorError):
    """The store did not take what the archive has. What was written is left to its garbage collection."""


class ExportFailed(MirrorError):
    """The archive cannot be written. Nothing of it is left."""
