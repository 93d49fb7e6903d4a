"""Hosts directories as data: random ones as users have them, written to disk, and compared afterwards."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from hypothesis import strategies as st

Tree: TypeAlias = Mapping[str, tuple[int, bytes] | None]
"""By relative path: mode and content of a file, or None for a directory that may be empty."""

Snapshot: TypeAlias = dict[str, tuple[object, ...]]


def write_tree(root: Path, tree: Tree) -> None:
    for name, file in tree.items():
        path = root / name
        if file is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file[1])
        path.chmod(file[0])
        # Not now: a restored time must be told from that of a new file.
        os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_123_456_789))


def snapshot(root: Path) -> Snapshot:
    """Everything below, with mode, owner, and for files content and time of change."""
    taken: Snapshot = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        what = (stat.filemode(status.st_mode), status.st_uid, status.st_gid)
        name = str(path.relative_to(root))
        if path.is_symlink():
            taken[name] = (*what, str(path.readlink()))
        elif path.is_file():
            taken[name] = (*what, path.read_bytes(), status.st_mtime_ns)
        else:
            taken[name] = what
    return taken


_URLS = ("https://m1.example", "http://m2.example:5000", "m3.example/sub", "https://docker.io/v2")
_SERVERS = ("https://registry-1.docker.io", "http://10.1.2.3:5000", "reg.example", _URLS[0], _URLS[1])

_OPTION_LINES = (
    'capabilities = ["pull"]',
    "capabilities = ['pull', \"resolve\"]",
    'ca = "own.crt"',
    'ca = ["/etc/a.pem",\n  # and\n  "b.pem"]',
    'client = [["c.cert", "c.key"]]',
    "client = 'c.pem'",
    "skip_verify = true # for now",
    "override_path = true",
    'dial_timeout = "3s"',
    'proxy = "http://proxy:3128"',
    'note = """\n# <- no comment\n[host.nor-this]\n"""',
)
_HEADER_LINES = ('x-a = "1"', 'x-b = ["1", "2"]', '"x c" = "\\t\\"#"')
_FILLERS = ("\n", "# a comment\n", "  # [host.'x']\n", "\n\n")


def _option_lines() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(_OPTION_LINES), max_size=4, unique_by=lambda it: it.split()[0])


@st.composite
def _table(draw: st.DrawFn, path: str) -> str:
    indent = draw(st.sampled_from(["", "  ", "\t"]))
    lines = [f"[{path}]", *draw(_option_lines())]
    if draw(st.booleans()):
        lines += [
            f"[{path}.header]",
            *draw(st.lists(st.sampled_from(_HEADER_LINES), max_size=3, unique=True)),
        ]
    return "".join(indent + line + "\n" for line in lines) + draw(st.sampled_from(("", *_FILLERS)))


@st.composite
def hosts_tomls(draw: st.DrawFn) -> str:
    """Valid TOML, valid for containerd, in the forms that people write."""
    top = draw(_option_lines())
    if draw(st.booleans()):
        top.insert(0, f'server = "{draw(st.sampled_from(_SERVERS))}"')
    parts = [line + "\n" + draw(st.sampled_from(("", *_FILLERS))) for line in top]
    urls = draw(st.lists(st.sampled_from(_URLS), max_size=3, unique=True))
    tables = [draw(_table(f'host."{url}"')) for url in urls]
    if draw(st.booleans()):
        tables.insert(draw(st.integers(0, len(tables))), '[header]\nx-top = "1"\n')
    text = draw(st.sampled_from(("", *_FILLERS))) + "".join(parts + tables)
    if draw(st.integers(0, 4)) == 0:
        text = text.replace("\n", "\r\n")
    return text.rstrip() if draw(st.integers(0, 4)) == 0 else text


_DIRECTORIES = (
    "_default",
    "docker.io",
    "ghcr.io",
    "reg.test:5000",
    "reg.test_5000_",
    "localhost:5000",
    "notes",
)
_CERTIFICATES = ("ca.crt", "own.crt", "x.cert", "x.key", "alone.cert", "README")
_MODES = st.sampled_from((0o644, 0o600, 0o640, 0o755))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A hosts directory as a user may have it, without anything of ours."""
    tree: dict[str, tuple[int, bytes] | None] = {}
    for name in draw(st.lists(st.sampled_from(_DIRECTORIES), max_size=5, unique=True)):
        tree[name] = None
        if draw(st.booleans()):
            tree[f"{name}/hosts.toml"] = (draw(_MODES), draw(hosts_tomls()).encode())
        for file in draw(st.lists(st.sampled_from(_CERTIFICATES), max_size=3, unique=True)):
            tree[f"{name}/{file}"] = (draw(_MODES), b"PEM")
    if draw(st.booleans()):
        tree["README"] = (0o644, b"certs\n")
    return tree
