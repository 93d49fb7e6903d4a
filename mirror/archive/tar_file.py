"""A tar, plain or gzipped, as a container of files. Blocking.

Rules
1. The archive is walked once, header by header; nothing of it is ever written under a name from it.
2. Counts and sizes of what is kept in memory are bounded. A name that is there twice, leads outside, or belongs to
   something else than a file, a folder or a link is refused, and with it the archive.
3. A symbolic link is one to a file of the archive, at most one step away: older versions of docker save share layers
   so.
4. Of a gzipped archive small files are kept from the walk, since going back means to begin anew.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from posixpath import dirname, join, normpath
from typing import IO, Final

from mirror.archive.container import CHUNK_BYTES
from mirror.archive.errors import ArchiveInvalid
from mirror.archive.tar_header import (
    BLOCK_BYTES,
    SPARSE_PREFIX,
    EntryKind,
    Header,
    parse_header,
    parse_long,
    parse_pax,
    pax_size,
)

# An image has 127 layers at most, three entries each in old archives; this is hundreds of images.
ENTRIES_MAX_COUNT: Final = 65_536
# Names have 4,096 characters at most; pax headers may hold extended attributes besides.
EXTENDED_MAX_BYTES: Final = 1 << 20
# Of one entry; writers need two, and a global one. Zipped headers that lead to no entry are a thousand times smaller.
EXTENDED_MAX_COUNT: Final = 8
NAME_MAX_LENGTH: Final = 4096
# Manifests, configs and indexes: hundreds of each.
KEPT_FILE_MAX_BYTES: Final = 256 << 10
KEPT_MAX_BYTES: Final = 64 << 20

_GZIP_SIGN = b"\x1f\x8b"
_SHOWN_CHARACTERS = 200
_EXTENDED = (EntryKind.LONG_NAME, EntryKind.LONG_LINK, EntryKind.PAX, EntryKind.PAX_GLOBAL)
_UNWANTED = {
    EntryKind.HARD_LINK: "a hard link",
    EntryKind.CHARACTER_DEVICE: "a device",
    EntryKind.BLOCK_DEVICE: "a device",
    EntryKind.FIFO: "a pipe",
}


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    size_bytes: int


class TarFile:
    """Implements `Container`. Made by `open_tar`."""

    def __init__(self, title: str, file: IO[bytes], *, is_gzipped: bool) -> None:
        self._title = title
        self._file = file
        self._is_gzipped = is_gzipped
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0

    @property
    def title(self) -> str:
        return self._title

    def size_bytes(self, name: str) -> int | None:
        name = self._resolved(name)
        return None if name not in self._places else self._places[name].size_bytes

    def read(self, name: str, max_bytes: int) -> bytes | None:
        name = self._resolved(name)
        if name not in self._places:
            return None
        size_bytes = self._places[name].size_bytes
        if size_bytes > max_bytes:
            raise self._invalid(f"{name} has {size_bytes} bytes, more than the {max_bytes} it may have")
        return self._kept[name] if name in self._kept else b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        place = self._places[self._resolved(name)]
        with self._readable():
            self._file.seek(place.offset)
            left_bytes = place.size_bytes
            while left_bytes:
                chunk = self._file.read(min(left_bytes, CHUNK_BYTES))
                if not chunk:
                    raise self._cut_off(name)
                left_bytes -= len(chunk)
                yield chunk

    def in_order(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: self._places[self._resolved(name)].offset)

    def walk(self) -> None:
        """To be called once, before anything else. Raises: ArchiveInvalid."""
        with self._readable():
            for count, header in enumerate(self._headers()):
                if count >= ENTRIES_MAX_COUNT:
                    raise self._invalid(f"it has more than {ENTRIES_MAX_COUNT} entries")
                self._take(header)

    def _headers(self) -> Iterator[Header]:
        """Each with its own name; the file stands at its body then."""
        offset = extended_count = 0
        name = link = None
        records: dict[str, str] = {}
        while True:
            self._file.seek(offset)
            block = self._file.read(BLOCK_BYTES)
            if not block and offset:
                return  # Written by somebody who leaves the closing blocks out.
            if len(block) < BLOCK_BYTES:
                raise self._invalid("it ends in the middle of a header")
            header = parse_header(block)
            if header is None:
                return
            offset += BLOCK_BYTES
            size_bytes = header.size_bytes
            extended_count = extended_count + 1 if header.kind in _EXTENDED else 0
            if extended_count > EXTENDED_MAX_COUNT:
                raise self._invalid(f"it has more than {EXTENDED_MAX_COUNT} headers for one entry")
            match header.kind:
                case EntryKind.LONG_NAME:
                    name = parse_long(self._extended(size_bytes))
                case EntryKind.LONG_LINK:
                    link = parse_long(self._extended(size_bytes))
                case EntryKind.PAX:
                    records = parse_pax(self._extended(size_bytes))
                case EntryKind.PAX_GLOBAL:
                    self._extended(size_bytes)
                case _:
                    if any(key.startswith(SPARSE_PREFIX) for key in records):
                        raise self._invalid(f"{header.name[:_SHOWN_CHARACTERS]!r} is a sparse file")
                    stated_bytes = pax_size(records)
                    if stated_bytes is not None and header.kind is EntryKind.FILE:
                        size_bytes = stated_bytes
                    yield Header(
                        records.get("path", name or header.name),
                        header.kind,
                        size_bytes,
                        records.get("linkpath", link or header.link),
                    )
                    name = link = None
                    records = {}
            offset += -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES

    def _take(self, header: Header) -> None:
        name = self._clean(header.name)
        if header.kind is EntryKind.FOLDER:
            return
        if header.kind in _UNWANTED:
            raise self._invalid(f"{name} is {_UNWANTED[header.kind]}, which no image archive has")
        if name in self._places or name in self._links:
            raise self._invalid(f"{name} is there twice")
        if header.kind is EntryKind.SYMBOLIC_LINK:
            if header.link.startswith("/"):
                raise self._invalid(f"{name} is a link that leads outside")
            self._links[name] = self._clean(join(dirname(name), header.link))
            return
        self._places[name] = _Place(self._file.tell(), header.size_bytes)
        if self._is_gzipped and header.size_bytes <= min(
            KEPT_FILE_MAX_BYTES, KEPT_MAX_BYTES - self._kept_bytes
        ):
            self._kept[name] = b"".join(self.chunks(name))
            self._kept_bytes += header.size_bytes
        else:
            self._check_end(name, header.size_bytes)

    def _check_end(self, name: str, size_bytes: int) -> None:
        if size_bytes:
            # Its last byte: of a gzipped archive a seek behind the end is silent, too.
            self._file.seek(self._places[name].offset + size_bytes - 1)
            if not self._file.read(1):
                raise self._cut_off(name)

    def _extended(self, size_bytes: int) -> bytes:
        if size_bytes > EXTENDED_MAX_BYTES:
            raise self._invalid(f"it has a header of {size_bytes} bytes")
        body = self._file.read(size_bytes)
        if len(body) < size_bytes:
            raise self._invalid("it ends in the middle of a header")
        return body

    def _clean(self, name: str) -> str:
        """Relative, and below the archive's root."""
        shown = f"{name[:_SHOWN_CHARACTERS]!r}"
        if not name or len(name) > NAME_MAX_LENGTH or name.startswith("/"):
            raise self._invalid(f"an entry has the name {shown}")
        cleaned = normpath(name)
        if cleaned == ".." or cleaned.startswith("../"):
            raise self._invalid(f"the entry {shown} leads outside")
        return cleaned

    def _resolved(self, name: str) -> str:
        target = self._links.get(name)
        if target is None:
            return name
        if target not in self._places:
            raise self._invalid(f"{name} is a link to {target[:_SHOWN_CHARACTERS]!r}, which is no file of it")
        return target

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (gzip.BadGzipFile, zlib.error, EOFError) as exc:
            raise self._invalid(f"it is cut off or damaged: {exc}") from exc
        except OverflowError as exc:
            raise self._invalid(f"it cannot be read: {exc}") from exc
        except OSError as exc:
            raise self._invalid(f"it cannot be read: {exc.strerror or exc}") from exc

    def _cut_off(self, name: str) -> ArchiveInvalid:
        return self._invalid(f"it ends in the middle of {name}")

    def _invalid(self, message: str) -> ArchiveInvalid:
        return ArchiveInvalid(f"{self._title}: {message}")


def open_tar(title: str, file: IO[bytes]) -> TarFile:
    """`file` can seek, and is closed by the caller, after the last use. Raises: ArchiveInvalid."""
    sign = file.read(len(_GZIP_SIGN))
    file.seek(0)
    is_gzipped = sign == _GZIP_SIGN
    opened: IO[bytes] = gzip.GzipFile(fileobj=file, mode="rb") if is_gzipped else file  # type: ignore[assignment]
    tar = TarFile(title, opened, is_gzipped=is_gzipped)
    try:
        tar.walk()
    except ArchiveInvalid as exc:
        text = str(exc)
        raise ArchiveInvalid(text if text.startswith(f"{title}: ") else f"{title}: {text}") from exc
    return tar
