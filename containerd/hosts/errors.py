"""What can be wrong with hosts.toml files, their directory and the names of registries.

Every message names the file or the name, says what is wrong with it, and what to do.
"""

from containerd.errors import ContainerdError


class HostsError(ContainerdError):
    """The registry configuration could not be read or changed. What was there is still there."""


class HostsFileInvalid(HostsError):
    """A hosts.toml is not what containerd accepts. Mend it, or move it away, and run again."""

    def __init__(self, where: str, line: int | None, reason: str) -> None:
        place = where if line is None else f"{where}, line {line}"
        super().__init__(f"{place}: {reason}; mend it or move it away; nothing was changed")
        self.where = where
        self.line = line


class RegistryNameInvalid(HostsError):
    """Not the name of a registry as it stands in front of an image's name: `host`, or `host:port`."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"registry {name!r}: {reason}")


class HostsDirUnusable(HostsError):
    """The operating system refused to read or write there; the message says what and where."""


class HostsDirBusy(HostsError):
    """Another process is changing the same directory and did not finish in time. Run again."""
