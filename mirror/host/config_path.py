"""Puts config_path into the text of containerd's config.toml, and changes nothing else in it. Pure.

Which table counts, measured on 1.6, 1.7 and 2.1 with `containerd config dump`:

| file says | containerd 1.x | containerd 2.x |
|---|---|---|
| no version, or 1 | `plugins.cri`; tables of version 2 are overlooked | `io.containerd.cri.v1.images` |
| version 2 | `io.containerd.grpc.v1.cri` | the same; where it has no registry table, also the one of version 3 |
| version 3 | refused | `io.containerd.cri.v1.images`; that of version 2 is overlooked |

An imported file without a version is read as one of the main file's.

Rules
1. The user's version is left as it is, since another would bring tables to life that are overlooked now. Only a file
   that says nothing at all gets one.
2. What is returned was read again: it says what the text said, and config_path. Else it raises.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

from containerd.hosts.toml_text import is_statement, key_text, logical_lines, quote
from mirror.host.errors import HostError

CRI_1 = "cri"
CRI_2 = "io.containerd.grpc.v1.cri"
IMAGES_3 = "io.containerd.cri.v1.images"
KEY = "config_path"
_REGISTRY = "registry"
# A key, perhaps dotted, the equals sign, and a string of one line; what follows is a comment.
_STRING = re.compile(
    r"""(\s*(?:[A-Za-z0-9_.\s-]|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')+=[ \t]*)"""
    r"""(?!\"\"\"|''')(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
)


class Unspliceable(HostError):
    """The text is not TOML, or written in a way that is left to its author. The message ends in what to write."""


def file_version(text: str) -> int:
    """1 where it says none, or is not TOML."""
    try:
        found = tomllib.loads(text).get("version", 1)
    except (ValueError, RecursionError):
        return 1
    return found if isinstance(found, int) else 1


def with_config_path(
    text: str, directory: str, release: tuple[int, int], where: str, *, main_version: int = 1
) -> str:
    """`where`: the file, for the message. `main_version`: of the file that imports this one. Raises: Unspliceable."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unspliceable(
            f"{where} is not TOML, and containerd would not start with it: {error}; mend it and run again"
        ) from error
    ending = "\r\n" if "\r\n" in text else "\n"
    head = ""
    if not document and main_version < 2:
        newest = 3 if release >= (2, 0) else 2
        document, head = {"version": newest}, f"version = {newest}{ending}"
    version = document.get("version", main_version)
    plugin = _plugin(document, version if isinstance(version, int) else 1, release)
    wanted = _with(document, plugin, directory)
    result = None if wanted is None else _spliced(text, head, plugin, directory, ending)
    if result is None or not _says(result, wanted):
        raise Unspliceable(
            f"config_path cannot be put into {where} by peili, as it is written there; write below "
            f'[plugins."{plugin}".registry]: {KEY} = {quote(directory)}, and run again'
        )
    return result


def _plugin(document: Mapping[str, object], version: int, release: tuple[int, int]) -> str:
    if release < (2, 0):
        return CRI_1 if version < 2 else CRI_2
    if version != 2:
        return IMAGES_3
    plugins = _table(document, "plugins")
    in_3_only = _REGISTRY in _table(plugins, IMAGES_3) and _REGISTRY not in _table(plugins, CRI_2)
    return IMAGES_3 if in_3_only else CRI_2


def _table(inside: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = inside.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _with(document: Mapping[str, object], plugin: str, directory: str) -> dict[str, object] | None:
    """None where something that is no table stands in the way."""
    wanted: dict[str, object] = deepcopy(dict(document))
    inside = wanted
    for name in ("plugins", plugin, _REGISTRY):
        found = inside.setdefault(name, {})
        if not isinstance(found, dict):
            return None
        inside = found
    inside[KEY] = directory
    return wanted


def _says(text: str, wanted: object) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True, slots=True)
class _Statement:
    """`line`: its index. `section`: of the header above it, or its own; `path`: the whole key, section included."""

    line: int
    text: str
    section: tuple[str, ...]
    path: tuple[str, ...]
    is_header: bool


def _statements(lines: list[str]) -> Iterator[_Statement]:
    section: tuple[str, ...] = ()
    for index, line in enumerate(lines):
        if not is_statement(line):
            continue
        if is_header := line.lstrip().startswith("["):
            section = _first_path(line)
        path = section if is_header else (*section, *_first_path(line))
        yield _Statement(index, line, section, path, is_header)


def _first_path(statement: str) -> tuple[str, ...]:
    path: list[str] = []
    inside: object = tomllib.loads(statement)
    while isinstance(inside, dict) and len(inside) == 1:
        ((key, inside),) = inside.items()
        path.append(key)
    return tuple(path)


def _spliced(text: str, head: str, plugin: str, directory: str, ending: str) -> str | None:
    """`head`: for a text without statements. None where the way that it is written is not understood."""
    table = ("plugins", plugin, _REGISTRY)
    lines = list(logical_lines(text))
    statements = list(_statements(lines))
    for one in statements:
        if one.path == (*table, KEY) and not one.is_header:
            found = _STRING.match(one.text)
            if found is None:
                return None
            lines[one.line] = found[1] + quote(directory) + one.text[found.end() :]
            return "".join(lines)
    for one in statements:
        if one.is_header and one.path == table:
            indent = _indent(one.text) + "  "
            lines[one.line] = _ended(one.text, ending) + f"{indent}{KEY} = {quote(directory)}{ending}"
            return "".join(lines)
    for one in statements:
        # registry.max = 3, somewhere above: the table cannot have a header then.
        if not one.is_header and one.path[:3] == table and len(one.section) < len(table):
            key = ".".join(map(key_text, (*table[len(one.section) :], KEY)))
            lines[one.line] = f"{_indent(one.text)}{key} = {quote(directory)}{ending}{one.text}"
            return "".join(lines)
    header = ".".join(map(key_text, table))
    gap = ending if text.strip() or head else ""
    added = f"{head}{gap}[{header}]{ending}  {KEY} = {quote(directory)}{ending}"
    return (_ended(text, ending) if text else "") + added


def _indent(line: str) -> str:
    # A logical line may begin with the blank lines above it.
    last = line[: len(line) - len(line.lstrip())].rpartition("\n")[2]
    return last.strip("\r")


def _ended(text: str, ending: str) -> str:
    return text if text.endswith("\n") else text + ending
