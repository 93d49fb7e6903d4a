"""What an ELF file asks of the dynamic loader, and the file without what no loader reads.

Works on the bytes of 64-bit little-endian files of any machine, so that the same builder serves amd64 and arm64 and no
binutils are needed. Refuses to touch what lies in a segment.
Source: System V gABI, chapters 4 and 5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<qQ")
_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
# Where the header says where the section table is (e_shoff), and the three 16-bit fields that describe it.
_SECTIONS_AT: Final = 0x28
_SECTION_COUNTS_AT: Final = 0x3A


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size_bytes: int


def is_elf(data: bytes) -> bool:
    return data.startswith(MAGIC) and len(data) >= _HEADER.size


def needed(data: bytes) -> tuple[str, ...]:
    """Names of the libraries it is linked to. Empty for what is no ELF file."""
    if not is_elf(data):
        return ()
    segments = _segments(data)
    dynamic = next((one for one in segments if one.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return ()
    entries = list(_DYNAMIC.iter_unpack(data[dynamic.offset : dynamic.offset + dynamic.size_bytes]))
    strings_at = next((_offset(segments, value) for tag, value in entries if tag == _DT_STRTAB), 0)
    return tuple(_text(data, strings_at + value) for tag, value in entries if tag == _DT_NEEDED)


def without_sections(data: bytes) -> bytes:
    """The file up to the end of its last segment: symbol tables for linkers and debuggers go, and with them the table
    of sections. What is loaded is the same, byte for byte. What is no ELF file comes back as it is."""
    if not is_elf(data):
        return data
    end = max(one.offset + one.size_bytes for one in _segments(data))
    if end >= len(data):
        return data
    kept = bytearray(data[:end])
    struct.pack_into("<Q", kept, _SECTIONS_AT, 0)
    struct.pack_into("<HHH", kept, _SECTION_COUNTS_AT, 0, 0, 0)
    return bytes(kept)


def _segments(data: bytes) -> list[_Segment]:
    fields = _HEADER.unpack_from(data)
    table_at, entry_bytes, count = fields[5], fields[9], fields[10]
    segments = []
    for number in range(count):
        kind, _, offset, address, _, size_bytes, _, _ = _PROGRAM.unpack_from(
            data, table_at + number * entry_bytes
        )
        segments.append(_Segment(kind, offset, address, size_bytes))
    return segments


def _offset(segments: list[_Segment], address: int) -> int:
    for one in segments:
        if one.kind == _PT_LOAD and one.address <= address < one.address + one.size_bytes:
            return address - one.address + one.offset
    raise ValueError(f"the address {address:#x} is in no segment of the file")


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()
