"""Reads and evaluates containerd's filter expressions, for the fake: the inverse of `containerd.filters`.

Written from containerd's grammar, not from our builder, and checked beside real containerd by the
conformance suite. `/…/` and `|…|` quoting is left out, since our builder never writes it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Lookup = Callable[[tuple[str, ...]], str | None]
"""The value of a field path, None when it is absent."""

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"==|!=|~=")
_VALUE = re.compile(r'[^\s,"]+')
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_SHORT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


class FilterInvalid(Exception):
    """The text is no filter expression."""


@dataclass(frozen=True, slots=True)
class Selector:
    """`operator` is "" for presence."""

    path: tuple[str, ...]
    operator: str
    value: str

    def accepts(self, lookup: Lookup) -> bool:
        value = lookup(self.path)
        match self.operator:
            case "==":
                return value == self.value
            case "!=":
                return value != self.value
            case "~=":
                return re.search(self.value, value or "") is not None
            case _:
                return value is not None


def parse(expression: str) -> list[Selector]:
    """All of which must accept. Raises: FilterInvalid."""
    selectors = []
    position = 0
    while True:
        path, position = _path(expression, position)
        operator = value = ""
        if found := _OPERATOR.match(expression, position):
            operator = found[0]
            value, position = _text(expression, found.end(), _VALUE)
        selectors.append(Selector(path, operator, value))
        if position == len(expression):
            return selectors
        if expression[position] != ",":
            raise FilterInvalid(f"filters: parse error at {position} in {expression!r}")
        position += 1


def any_of(filters: Sequence[str]) -> Callable[[Lookup], bool]:
    """Whether any filter accepts, or there is none. Raises: FilterInvalid."""
    parsed = [parse(expression) for expression in filters if expression]

    def accepts(lookup: Lookup) -> bool:
        return not parsed or any(all(selector.accepts(lookup) for selector in each) for each in parsed)

    return accepts


def lookup_in(fields: Mapping[str, str], labels: Mapping[str, str]) -> Lookup:
    """`fields` by their dotted path; anything below "labels" is one label key, dots and all."""

    def lookup(path: tuple[str, ...]) -> str | None:
        if path[0] == "labels":
            return labels.get(".".join(path[1:]))
        return fields.get(".".join(path))

    return lookup


def _path(expression: str, position: int) -> tuple[tuple[str, ...], int]:
    fields = []
    while True:
        field, position = _text(expression, position, _FIELD)
        fields.append(field)
        if not expression.startswith(".", position):
            return tuple(fields), position
        position += 1


def _text(expression: str, position: int, plain: re.Pattern[str]) -> tuple[str, int]:
    if quoted := _QUOTED.match(expression, position):
        return _ESCAPE.sub(_unescaped, quoted[1]), quoted.end()
    if found := plain.match(expression, position):
        return found[0], found.end()
    raise FilterInvalid(f"filters: parse error at {position} in {expression!r}")


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16))
    if escape[2] not in _SHORT:
        raise FilterInvalid(f"filters: unknown escape {escape[0]!r}")
    return _SHORT[escape[2]]
