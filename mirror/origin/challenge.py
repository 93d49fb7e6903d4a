"""What a WWW-Authenticate header asks for. Pure. Answers no challenge, and knows no scheme but Bearer and Basic.

Rules
1. Bearer before Basic, as containerd chooses; a Bearer without a realm is none.
2. A header that is garbage from some place on counts as far as it was read.

Source: RFC 9110 §11.6.1; the CNCF distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# A challenge is about 200 bytes; what is longer than any server's header line is not one.
CHALLENGE_MAX_CHARS = 8190

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_GAP = re.compile(r"[ \t,]*+")
_PARAMETER = re.compile(rf'({_WORD})[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|({_WORD}))')
_SCHEME = re.compile(rf"({_WORD})(?=[ \t,]|$)")
# Such as the blob behind Negotiate.
_TOKEN68 = re.compile(r"[0-9A-Za-z._~+/-]++=*+(?=[ \t,]|$)")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Bearer:
    """`realm` is the token server's address as it was written. `scope` "": not said."""

    realm: str
    service: str
    scope: str


@dataclass(frozen=True, slots=True)
class Basic:
    pass


Challenge = Bearer | Basic


def choose(headers: Iterable[str]) -> Challenge | None:
    """`headers`: every WWW-Authenticate line of the answer. None: nothing that can be answered here."""
    offered = [challenge for header in headers for challenge in _read(header[:CHALLENGE_MAX_CHARS])]
    for scheme, parameters in offered:
        if scheme == "bearer" and parameters.get("realm"):
            return Bearer(parameters["realm"], parameters.get("service", ""), parameters.get("scope", ""))
    if any(scheme == "basic" for scheme, _ in offered):
        return Basic()
    return None


def _read(header: str) -> list[tuple[str, dict[str, str]]]:
    challenges: list[tuple[str, dict[str, str]]] = []
    place = _end(_GAP.match(header))
    while place < len(header):
        parameter = _PARAMETER.match(header, place) if challenges else None
        if parameter is not None:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            challenges[-1][1].setdefault(name.lower(), value)
        scheme = None if parameter else _SCHEME.match(header, place)
        if scheme is not None:
            challenges.append((scheme[1].lower(), {}))
        other = None if parameter or scheme or not challenges else _TOKEN68.match(header, place)
        found = parameter or scheme or other
        if found is None:
            break
        place = _end(_GAP.match(header, found.end()))
    return challenges


def _end(found: re.Match[str] | None) -> int:
    return found.end() if found else 0
