"""Builds containerd filter expressions from field paths and values, so that no value can change the meaning.

It builds; it does not evaluate, and knows no field names. Several filters in one call mean "any of them".

Rules
1. An expression is `path operator value`; a path is fields joined by dots; `,` joins what must all hold.
2. A field that is not a plain word, and every value, is quoted: double quotes, with Go's escapes.
3. A regular expression is in Go's syntax (RE2), and unanchored.

Source: containerd, package `filters` (parser and scanner); the escapes seen to work on 1.6, 1.7 and 2.1.
"""

import re

_PLAIN_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MUST_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f]')


def equals(*path: str, value: str) -> str:
    """The field is present and has this value; `equals("labels", "a/b", value="c")` for a label."""
    return f"{_path(path)}=={_quoted(value)}"


def matches(*path: str, regex: str) -> str:
    """The field's value, "" when it is absent, has a match of `regex`."""
    return f"{_path(path)}~={_quoted(regex)}"


def present(*path: str) -> str:
    """The field is there, whatever its value."""
    return _path(path)


def all_of(*filters: str) -> str:
    """Raises: ValueError when there are none, since containerd takes an empty filter for "everything"."""
    if not filters:
        raise ValueError("no filters to join")
    return ",".join(filters)


def _path(fields: tuple[str, ...]) -> str:
    if not fields or not all(fields):
        raise ValueError(f"a field path needs fields, and none may be empty: {fields!r}")
    return ".".join(field if _PLAIN_FIELD.fullmatch(field) else _quoted(field) for field in fields)


def _quoted(text: str) -> str:
    escaped = _MUST_ESCAPE.sub(lambda match: _escape(match[0]), text)
    return f'"{escaped}"'


def _escape(character: str) -> str:
    # \u and not \x: \x is a byte to Go, \u a character, as it is to Python.
    return "\\" + character if character in '"\\' else f"\\u{ord(character):04x}"
