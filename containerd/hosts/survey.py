"""What stands in one registry's directory, seen as containerd would see it were we not here.

It reads; it changes nothing and decides nothing about our entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from containerd.hosts import disk
from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.hosts_file import HostsFile, certificate_options, read
from containerd.hosts.splice import has_marks, unsplice, with_empty_blocks
from containerd.hosts.toml_text import is_statement

SKIPS_HOSTLESS_BEFORE = (2, 0)
"""Older versions refuse a hosts.toml without hosts, and fall back to the certificate files (measured on
1.6 and 1.7; 2.1 reads such a file)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A registry's directory, or `_default`."""

    path: Path
    exists: bool
    is_link: bool
    found: disk.Found | None
    text: str
    """The user's text of hosts.toml; "" when there is none."""
    has_marks: bool
    certificates: tuple[str, ...]
    has_other_files: bool
    """Beside hosts.toml."""

    @property
    def hosts_toml(self) -> Path:
        return self.path / disk.HOSTS_TOML

    @property
    def user_wrote(self) -> bool:
        """Something in it cannot be ours; a comment beside our block is no sign."""
        replaced = self.found is not None and not self.has_marks
        return replaced or self.has_other_files or any(map(is_statement, self.text.split("\n")))


def survey(path: Path) -> Place:
    """Raises: HostsFileInvalid, OSError."""
    found = disk.read(path / disk.HOSTS_TOML)
    text = "" if found is None else _decoded(found.content, str(path / disk.HOSTS_TOML))
    where = str(path / disk.HOSTS_TOML)
    files = disk.names(path)
    return Place(
        path,
        path.is_dir(),
        path.is_symlink(),
        found,
        unsplice(text, where),
        has_marks(text),
        _certificates(path, files),
        any(name != disk.HOSTS_TOML for name in files),
    )


def _certificates(path: Path, files: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name for name in files if name.endswith((".crt", ".cert", ".key")))
    for name in names:
        if not name.isprintable():
            raise HostsFileInvalid(str(path / name), None, "a name that no hosts.toml can hold")
    return names


def user_file(place: Place, containerd_version: tuple[int, int] | None) -> HostsFile:
    """What the user says for this registry, certificate files included. Raises: HostsFileInvalid."""
    where = str(place.hosts_toml)
    try:
        file = read(place.text, where)
    except HostsFileInvalid:
        if place.found is not None and place.has_marks:
            # Says the same with the line numbers of the file as it stands.
            read(with_empty_blocks(_decoded(place.found.content, where), where), where)
        raise
    certificates = certificate_options(place.certificates)
    if not place.text:
        return HostsFile(None, certificates, ())
    skipped = containerd_version is None or containerd_version < SKIPS_HOSTLESS_BEFORE
    if skipped and not file.hosts and not file.options.keys() & {"ca", "client"}:
        return HostsFile(file.server, {**file.options, **certificates}, ())
    return file


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise HostsFileInvalid(where, line, "not UTF-8, and so not TOML") from error
