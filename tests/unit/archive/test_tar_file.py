"""Tars as others write them are read as they are; those that were made to do harm are refused, with a reason."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.archive import tar_file
from mirror.archive.errors import ArchiveInvalid
from mirror.archive.tar_file import TarFile, open_tar
from mirror.archive.tar_header import EntryKind, parse_header, parse_pax
from tests.support.examples import examples
from tests.support.image_archives import tar_of

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = st.text(st.sampled_from("abcé-_."), min_size=1, max_size=90).filter(lambda it: set(it) != {"."})
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def opened(data: bytes) -> TarFile:
    return open_tar("a.tar", io.BytesIO(data))


def entry(name: str, size_bytes: int = 0, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size_bytes
    for key, value in more.items():
        setattr(made, key, value)
    return made


@given(
    st.dictionaries(PATHS, st.binary(max_size=1500), max_size=6),
    st.sampled_from(FORMATS),
    st.booleans(),
)
@settings(max_examples=examples(300))
def test_what_another_program_wrote_is_read(files: dict[str, bytes], kind: int, is_gzipped: bool) -> None:
    """Its own names are the reference: long, and beyond ASCII."""
    out = io.BytesIO()
    written = {}
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, content in files.items():
            try:
                tar.addfile(entry(name, len(content)), io.BytesIO(content))
            except ValueError:  # ustar has no room for so long a name
                continue
            written[name] = content
    data = out.getvalue()
    found = opened(gzip.compress(data) if is_gzipped else data)
    for name, content in written.items():
        assert found.size_bytes(name) == len(content)
        assert found.read(name, 1500) == content
        assert b"".join(found.chunks(name)) == content
    assert found.in_order(reversed(written)) == list(written)
    assert found.size_bytes("absent") is None and found.read("absent", 1) is None


WHOLE = tar_of({"oci-layout": b"{}", "blobs/sha256/aa": b"x" * 1100, f"{'n' * 120}": b"y"})


@given(st.data())
@settings(max_examples=examples(600))
def test_a_damaged_tar_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
        if data.draw(st.booleans()):
            # A header that was made, not damaged: its checksum is right.
            block = position // 512 * 512
            total = sum(damaged[block : block + 148]) + 8 * 32 + sum(damaged[block + 156 : block + 512])
            damaged[block + 148 : block + 156] = b"%06o\0 " % total
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        found = opened(bytes(damaged[:cut]))
        for name in ("oci-layout", "blobs/sha256/aa"):
            found.read(name, 4096)
    except ArchiveInvalid as exc:
        assert str(exc).startswith("a.tar: ")


@given(st.binary(min_size=512, max_size=512))
def test_any_block_is_a_header_or_none(block: bytes) -> None:
    with contextlib.suppress(ArchiveInvalid):
        parse_header(block)


RECORD = b"12 path=a/b\n"


@given(st.booleans(), st.binary(max_size=200))
def test_any_bytes_are_records_or_none(follows_a_record: bool, body: bytes) -> None:
    with contextlib.suppress(ArchiveInvalid):
        parse_pax(RECORD * follows_a_record + body)


@pytest.mark.parametrize(
    "rest", [b"x" * 40, b"x y=z\n", b"0 y=z\n", b" y=z\n", b"3 y=z\n", b"2 \n", b"9 y=z\n"]
)
def test_a_record_without_a_length_of_its_own_is_no_record(rest: bytes) -> None:
    assert parse_pax(RECORD) == {"path": "a/b"}
    with pytest.raises(ArchiveInvalid, match="extended header cannot be read"):
        parse_pax(RECORD + rest)


def test_a_size_beyond_eight_gibibytes_is_read() -> None:
    size = 2**33 + 5
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        blocks = entry("big", size).tobuf(kind)
        if kind == tarfile.GNU_FORMAT:
            header = parse_header(blocks)
            assert header is not None and header.size_bytes == size
        else:
            assert parse_pax(blocks[512:1024]) == {"size": str(size)}


def test_a_link_leads_to_a_file_of_the_archive() -> None:
    """As docker save wrote layers that two images share."""
    links = [entry("b/layer.tar", type=tarfile.SYMTYPE, linkname="../a/layer.tar")]
    found = opened(tar_of({"./a/layer.tar": b"layer"}, links))
    assert found.read("b/layer.tar", 10) == b"layer" and found.size_bytes("b/layer.tar") == 5


def raw_header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    block = bytearray(entry(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[156:157] = kind
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    return bytes(block)


def pax(key: str, value: str) -> bytes:
    record = f"{len(key) + len(value) + 3 + 2} {key}={value}\n".encode()
    return raw_header("p", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")


HOSTILE: dict[str, tuple[bytes, str]] = {
    "out": (tar_of({"../etc/passwd": b"x"}), "leads outside"),
    "out in the middle": (tar_of({"blobs/../../x": b"x"}), "leads outside"),
    "absolute": (tar_of({"/etc/passwd": b"x"}), "has the name '/etc/passwd'"),
    "absolute by pax": (pax("path", "/abs") + raw_header("x", b"0" * 12), "has the name '/abs'"),
    "twice": (tar_of({"a": b"1"})[:1024] + tar_of({"./a": b"2"}), "a is there twice"),
    "twice, once as a link": (
        tar_of({"a": b"1", "b": b"2"}, [entry("a", type=tarfile.SYMTYPE, linkname="b")]),
        "a is there twice",
    ),
    "link twice": (
        tar_of({"b": b"2"}, [entry("a", type=tarfile.SYMTYPE, linkname="b")] * 2),
        "a is there twice",
    ),
    "link out": (tar_of({}, [entry("a", type=tarfile.SYMTYPE, linkname="/etc/shadow")]), "leads outside"),
    "link up": (tar_of({}, [entry("d/a", type=tarfile.SYMTYPE, linkname="../../x")]), "leads outside"),
    "hard link": (tar_of({"a": b"1"}, [entry("b", type=tarfile.LNKTYPE, linkname="a")]), "a hard link"),
    "device": (tar_of({}, [entry("b", type=tarfile.CHRTYPE)]), "a device"),
    "pipe": (tar_of({}, [entry("b", type=tarfile.FIFOTYPE)]), "a pipe"),
    "strange kind": (raw_header("a", b"0" * 12, b"Z"), "of a kind"),
    "sparse": (pax("GNU.sparse.major", "1") + raw_header("x", b"0" * 12), "sparse"),
    "negative size": (raw_header("a", b"\xff" * 12), "a size that no file has"),
    "huge size": (raw_header("a", b"\x80" + b"\x7f" * 11), "a size that no file has"),
    "largest size": (raw_header("a", b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7), "cannot be read"),
    "huge pax header": (raw_header("p", b"\x80\0\0\0\0\0\0\x7f\0\0\0\0", b"x"), "a header of"),
    "huge long name": (raw_header("p", b"\x80\0\0\0\0\0\0\x7f\0\0\0\0", b"L"), "a header of"),
    "huge global header": (raw_header("p", b"\x80\0\0\0\0\0\0\x7f\0\0\0\0", b"g"), "a header of"),
    "pax size": (pax("size", "9" * 19) + raw_header("x", b"0" * 12), "a size that no file has"),
    "pax length": (
        raw_header("p", b"%011o\0" % 12, b"x") + b"99 path=a/b\n".ljust(512, b"\0"),
        "extended header cannot be read",
    ),
    "cut off": (tar_of({"a": b"x" * 2000})[:1500], "ends in the middle of a"),
    "cut off header": (tar_of({"a": b""})[:300], "ends in the middle of a header"),
    "no tar": (b"#!/bin/sh\n" * 100, "no tar"),
    "checksum": (b"1" + tar_of({"a": b"x"})[1:], "wrong checksum"),
    "empty": (b"", "ends in the middle of a header"),
    "gzip cut off": (gzip.compress(tar_of({"a": bytes(2000)}))[:40], "cut off or damaged"),
    "gzip damaged": (b"\x1f\x8b" + bytes(100), "cut off or damaged"),
    "gzip shorter": (gzip.compress(tar_of({"a": b"x" * 2000})[:1500]), "ends in the middle of a"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_refused(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(ArchiveInvalid, match=f"^a.tar: .*{reason}"):
        opened(data)


def test_a_link_to_nothing_or_to_a_link_is_refused_when_it_is_used() -> None:
    links = [
        entry("a", type=tarfile.SYMTYPE, linkname="b"),
        entry("b", type=tarfile.SYMTYPE, linkname="a"),
    ]
    found = opened(tar_of({}, links))
    with pytest.raises(ArchiveInvalid, match="a is a link to 'b', which is no file of it"):
        found.size_bytes("a")


def test_entries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_file, "ENTRIES_MAX_COUNT", 3)
    opened(tar_of(dict.fromkeys("abc", b"")))
    with pytest.raises(ArchiveInvalid, match="more than 3 entries"):
        opened(tar_of(dict.fromkeys("abcd", b"")))


def test_headers_of_one_entry_are_counted() -> None:
    most = tar_file.EXTENDED_MAX_COUNT
    entries = [pax("path", "a") * most + raw_header("x", b"0" * 12), pax("path", "b") * most + WHOLE]
    assert opened(b"".join(entries)).size_bytes("a") == 0
    with pytest.raises(ArchiveInvalid, match=f"more than {most} headers for one entry"):
        opened(pax("path", "a") * (most + 1) + WHOLE)


def test_no_more_is_kept_of_a_gzipped_archive_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_file, "KEPT_MAX_BYTES", 250)
    files = {name: name.encode() * 100 for name in "abcd"}
    found = opened(gzip.compress(tar_of(files)))
    assert sum(map(len, found._kept.values())) == 200
    assert {name: found.read(name, 100) for name in "abcd"} == files


def test_a_bomb_takes_no_memory() -> None:
    """Zeros that are a thousand times smaller in the archive, as one file: passed over, never held."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    size_bytes = 128 << 20
    parts = [squeezer.compress(raw_header("a", b"%011o\0" % size_bytes))]
    parts += [squeezer.compress(bytes(1 << 20)) for _ in range(size_bytes >> 20)]
    parts.append(squeezer.flush())
    tracemalloc.start()
    try:
        found = opened(b"".join(parts))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.size_bytes("a") == size_bytes
    assert peak_bytes < 4 << 20
    with pytest.raises(ArchiveInvalid, match="more than the 4096"):
        found.read("a", 4096)


def test_folders_and_kinds_of_old_are_known() -> None:
    old = bytearray(entry("blobs/").tobuf(tarfile.USTAR_FORMAT))
    old[156] = 0
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + 8 * 32 + sum(old[156:]))
    header = parse_header(bytes(old))
    assert header is not None and header.kind is EntryKind.FOLDER


KINDS: list[Callable[[bytes], bytes]] = [lambda data: data, gzip.compress]


@pytest.mark.parametrize("made", KINDS)
def test_a_tar_without_its_closing_blocks_is_whole(made: Callable[[bytes], bytes]) -> None:
    data = tar_of({"a": b"x" * 512})[:1024]
    assert opened(made(data)).read("a", 512) == b"x" * 512
