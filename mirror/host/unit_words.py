"""How a text is written in a unit file so that systemd reads it back as it was. Pure.

Sources: systemd.syntax(7), systemd.service(5) "COMMAND LINES", systemd.unit(5) "SPECIFIERS", systemd.exec(5); each rule
was seen in 252.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirror.host.errors import HostError

# What no rule of systemd gives a meaning, in any place.
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@+^~-]+")
# systemd refuses a program whose path has these.
_NOT_IN_A_PROGRAM = re.compile(r"[\x00-\x1f\x7f\"'\\$\ud800-\udfff]")
_NOT_IN_A_PATH = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(service|socket|target|mount|path)")


def command_line(program: Sequence[str], arguments: Sequence[str]) -> str:
    """For ExecStart=. Raises: HostError where a word cannot be said."""
    first, *rest = program
    _absolute(first)
    if found := _NOT_IN_A_PROGRAM.search(first):
        raise HostError(f"systemd starts no program with {found[0]!r} in its path: {first!r}; move it")
    # The program's own path is not searched for variables.
    words = [_quoted(first), *(_quoted(word, has_variables=True) for word in [*rest, *arguments])]
    return " ".join(words)


def assignment(name: str, value: str) -> str:
    """For Environment=."""
    return _quoted(f"{name}={value}")


def path(text: str) -> str:
    """For settings that take a list of paths. Raises: HostError."""
    _absolute(text)
    if found := _NOT_IN_A_PATH.search(text):
        raise HostError(f"{text!r} has {found[0]!r} in it, which a unit cannot say; choose another path")
    return text.replace("%", "%%") if _PLAIN.fullmatch(text) else _quoted(text)


def whole_path(text: str) -> str:
    """For settings that take one path, to the end of the line, without quotes. Raises: HostError."""
    path(text)
    if text != text.strip() or text.endswith("\\"):
        raise HostError(f"{text!r} begins or ends in a way that a unit cannot say; choose another path")
    return text.replace("%", "%%")


def bound_path(text: str) -> str:
    """For BindPaths=, where a colon ends the source. Raises: HostError."""
    if ":" in text:
        raise HostError(f"{text!r} has a colon in it, which a unit cannot say there; choose another path")
    return path(text)


def unit_name(text: str) -> str:
    """Raises: HostError."""
    if not _UNIT_NAME.fullmatch(text):
        raise HostError(f"{text!r} is no name of a unit; it is like containerd.service")
    return text


def _absolute(text: str) -> None:
    if not text.startswith("/"):
        raise HostError(f"{text!r} is no absolute path, and systemd takes no other")


def _quoted(text: str, *, has_variables: bool = False) -> str:
    if _PLAIN.fullmatch(text):
        return text
    said = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            said.append("\\" + char)
        elif char == "%":
            said.append("%%")
        elif char == "$" and has_variables:
            said.append("$$")
        elif code == 0:
            raise HostError(f"{text!r} holds a NUL, which no command line can")
        elif code < 0x20 or code == 0x7F:
            said.append(f"\\x{code:02x}")
        elif 0xD800 <= code <= 0xDFFF:
            # systemd would start it, and systemctl could not show it.
            raise HostError(f"{text!r} is not UTF-8, which a unit must be; choose another name")
        else:
            said.append(char)
    return '"' + "".join(said) + '"'
