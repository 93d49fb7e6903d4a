"""The base of every error that this application raises on purpose.

A message says what happened, to what, and what to do.
"""


class MirrorError(Exception):
    """Base class; anything else that escapes is a defect."""


class SettingsError(MirrorError):
    """A flag, an environment variable or a file that one names is wrong. Exit code 2.

    `setting` is the flag as the user would type it, such as ``--peer-addr``.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting


class ContentNotFound(MirrorError):
    """The content is not here. Normal: never logged as an error."""


class StoreUnavailable(MirrorError):
    """The store cannot answer now: containerd is away, or a directory cannot be read."""


class TransferError(MirrorError):
    """A download could not go on."""
