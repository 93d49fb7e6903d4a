"""Writes TOML values and tables, and cuts TOML text into its statements without changing a byte.

It does not parse: tomllib does, and text is given to `logical_lines` only after tomllib accepted it.

Rules
1. What `table` writes, tomllib reads back as the same values in the same order.
2. The pieces of `logical_lines`, joined, are the text.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import TypeAlias

Value: TypeAlias = "str | int | float | bool | datetime | date | time | Sequence[Value] | Mapping[str, Value]"
Table: TypeAlias = Mapping[str, Value]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MUST_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f]')
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}

# Everything that can hide a newline, a bracket or a quote from the cut. A multi-line string may end in up
# to two quotes of its own, in front of the three that close it.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)


def quote(text: str) -> str:
    return f'"{_MUST_ESCAPE.sub(lambda match: _escape(match[0]), text)}"'


def _escape(character: str) -> str:
    return _SHORT_ESCAPES.get(character) or f"\\u{ord(character):04x}"


def value_text(value: Value) -> str:
    """One line, also for lists and, within lists, tables."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key_text(key)} = {value_text(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(value_text(item) for item in value)}]"
    return repr(value)


def key_text(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else quote(key)


def scalars(table: Table) -> str:
    """The values that stand directly in a table, without its own tables and without a header."""
    return "".join(
        f"{key_text(key)} = {value_text(value)}\n"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    )


def table(path: tuple[str, ...], content: Table) -> str:
    """The table and those within it, each under a header of its own, directly after it."""
    return f"[{'.'.join(map(key_text, path))}]\n{scalars(content)}{inner_tables(path, content)}"


def inner_tables(path: tuple[str, ...], content: Table) -> str:
    return "".join(table((*path, key), item) for key, item in content.items() if isinstance(item, Mapping))


def logical_lines(text: str) -> Iterator[str]:
    """Cuts after each newline that ends a statement, a comment or an empty line. `text` is valid TOML."""
    start = depth = 0
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind in "[{":
            depth += 1
        elif kind in "]}":
            depth -= 1
        elif kind == "\n" and depth == 0:
            yield text[start : token.end()]
            start = token.end()
    if start < len(text):
        yield text[start:]


def is_statement(logical_line: str) -> bool:
    stripped = logical_line.strip()
    return bool(stripped) and not stripped.startswith("#")
