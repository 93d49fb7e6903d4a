"""What one header block of a tar says. Pure.

Own code, not the standard library's `tarfile`: that reads extended headers of any size into memory, and releases that
are still in use do not end on a negative size (CVE-2025-8194) or take minutes for a made-up header (CVE-2024-6232).
What image archives need of the format is small: plain files, folders, symbolic links, long names.

Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mirror.archive.errors import ArchiveInvalid

BLOCK_BYTES = 512
# An offset in a file has 63 bits.
SIZE_MAX_BYTES = 2**63 - 1
_NAME = slice(0, 100)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)
_TYPE = 156
_LINK = slice(157, 257)
_MAGIC = slice(257, 263)
_PREFIX = slice(345, 500)
# GNU's own magic is "ustar  \0": there the prefix's place holds times.
_POSIX_MAGIC = b"ustar\0"
_USED_KEYS = (b"path", b"linkpath", b"size")
# Of a record, and the space behind it.
_LENGTH_MAX_DIGITS = 20
SPARSE_PREFIX = "GNU.sparse"
_BASE_256 = 0x80
_NEGATIVE = 0xFF


class EntryKind(Enum):
    FILE = b"0"
    HARD_LINK = b"1"
    SYMBOLIC_LINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    FOLDER = b"5"
    FIFO = b"6"
    # GNU: the body is the name, or the link's target, of the entry that follows.
    LONG_NAME = b"L"
    LONG_LINK = b"K"
    # POSIX: the body has records about the entry that follows, or about all.
    PAX = b"x"
    PAX_GLOBAL = b"g"


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    kind: EntryKind
    size_bytes: int
    link: str


def parse_header(block: bytes) -> Header | None:
    """None: an empty block, which ends an archive. Raises: ArchiveInvalid."""
    if not any(block):
        return None
    claimed = _number(block[_CHECKSUM])
    if claimed != sum(block[: _CHECKSUM.start]) + 8 * 0x20 + sum(block[_CHECKSUM.stop :]):
        raise ArchiveInvalid("no tar: a header has a wrong checksum")
    name = _text(block[_NAME])
    if block[_MAGIC] == _POSIX_MAGIC and (prefix := _text(block[_PREFIX])):
        name = f"{prefix}/{name}"
    kind = _kind(block[_TYPE : _TYPE + 1], name)
    size_bytes = _number(block[_SIZE])
    if kind in (EntryKind.SYMBOLIC_LINK, EntryKind.FOLDER):
        # Some writers state the size of the folder, or of what a link leads to; no body follows.
        size_bytes = 0
    return Header(name, kind, size_bytes, _text(block[_LINK]))


def parse_pax(body: bytes) -> dict[str, str]:
    """What an extended header says of name, link, size and holes. A record is `LENGTH KEY=VALUE\\n`, LENGTH that of the
    whole. Raises: ArchiveInvalid."""
    records = {}
    position = 0
    while position < len(body) and body[position]:
        space = body.find(b" ", position, position + _LENGTH_MAX_DIGITS)
        # Each record must end behind its own length: one of no length would be read for ever.
        end = position + _decimal(body[position:space]) if space > position else position
        record = body[space + 1 : end - 1]
        key, equals, value = record.partition(b"=")
        if not (position < space < end <= len(body)) or body[end - 1 : end] != b"\n" or not (key and equals):
            raise ArchiveInvalid("a damaged tar: an extended header cannot be read")
        # Extended attributes, which may be any bytes, are nobody's here.
        if key in _USED_KEYS or key.startswith(SPARSE_PREFIX.encode()):
            records[_text(key)] = _text(value)
        position = end
    return records


def parse_long(body: bytes) -> str:
    """Raises: ArchiveInvalid."""
    return _text(body)


def _kind(flag: bytes, name: str) -> EntryKind:
    if flag in (b"\0", b"7"):
        # Before POSIX, a folder was a file whose name ends so.
        return EntryKind.FOLDER if flag == b"\0" and name.endswith("/") else EntryKind.FILE
    try:
        return EntryKind(flag)
    except ValueError:
        raise ArchiveInvalid(f"the entry {name[:200]!r} is of a kind that no image archive has") from None


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 for what these cannot hold. Raises: ArchiveInvalid."""
    if field[0] & _BASE_256:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] == _NEGATIVE or value > SIZE_MAX_BYTES:
            raise ArchiveInvalid("a damaged tar: a size that no file has")
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise ArchiveInvalid("no tar: a number in a header cannot be read")
    return int(digits, 8)


def _decimal(digits: bytes) -> int:
    return int(digits) if digits.isdigit() else 0


def pax_size(records: dict[str, str]) -> int | None:
    """Raises: ArchiveInvalid."""
    text = records.get("size")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20) or int(text) > SIZE_MAX_BYTES:
        raise ArchiveInvalid("a damaged tar: a size that no file has")
    return int(text)


def _text(field: bytes) -> str:
    """Up to the first zero byte. Raises: ArchiveInvalid."""
    try:
        return field.partition(b"\0")[0].decode()
    except UnicodeDecodeError as exc:
        raise ArchiveInvalid("a tar with a name that is not UTF-8: no image archive has one") from exc
