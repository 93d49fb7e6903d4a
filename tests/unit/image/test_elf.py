"""ELF files are read and cut as the dynamic loader would have it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import multidict

from tests.image.elf import MAGIC, needed, without_sections

_PACKAGE = Path(multidict.__file__).parent
_EXTENSION = next(path for path in _PACKAGE.glob("_multidict*.so"))


def test_an_extension_without_its_sections_is_shorter_and_is_loaded(tmp_path: Path) -> None:
    shutil.copytree(_PACKAGE, tmp_path / "multidict")
    whole = _EXTENSION.read_bytes()
    cut = without_sections(whole)
    assert len(cut) < len(whole) / 2
    assert cut[0x40:] == whole[0x40 : len(cut)], (
        "only the header and what follows the last segment may change"
    )
    (tmp_path / "multidict" / _EXTENSION.name).write_bytes(cut)
    script = "import sys; from multidict import _multidict as it; print(it.__file__, it.MultiDict(a=1)['a'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"{tmp_path}/multidict/{_EXTENSION.name} 1", done.stderr


def test_cutting_twice_changes_nothing_more() -> None:
    cut = without_sections(_EXTENSION.read_bytes())
    assert without_sections(cut) == cut
    assert needed(cut) == needed(_EXTENSION.read_bytes())


def test_libraries_are_named_as_the_loader_names_them() -> None:
    assert "libc.so.6" in needed(_EXTENSION.read_bytes())


def test_a_library_is_found_where_addresses_are_not_offsets() -> None:
    """One segment, loaded at 0x1000 from offset 0, with dynamic section and strings in it."""
    dynamic_at, strings_at = 0x40 + 2 * 0x38, 0x100
    dynamic = struct.pack("<qQqQqQ", 1, 1, 5, 0x1000 + strings_at, 0, 0)
    header = MAGIC.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0x40, 0x180, 0, 0x40, 0x38, 2, 0x40, 3, 2
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x1000, 0x1000, 0x140, 0x140, 0x1000)
    named = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, 0x1000 + dynamic_at, 0, len(dynamic), len(dynamic), 8)
    data = (header + load + named + dynamic).ljust(strings_at, b"\0") + b"\0libodd.so.1\0"
    whole = data.ljust(0x140, b"\0") + b"sections".ljust(0x100, b"\0")
    assert needed(whole) == ("libodd.so.1",)
    cut = without_sections(whole)
    assert cut[0x40:] == whole[0x40:0x140]
    fields = struct.unpack_from("<HHIQQQIHHHHHH", cut, 16)
    assert fields == (3, 62, 1, 0, 0x40, 0, 0, 0x40, 0x38, 2, 0, 0, 0), "it says that there are no sections"


def test_what_is_no_elf_file_is_left_alone() -> None:
    for data in (b"", b"#!/usr/bin/python3\n", b"\x7fELF", MAGIC):
        assert without_sections(data) == data
        assert needed(data) == ()
