"""Which Debian mirror this machine's own apt sources name, and the keyring that goes with it.

Reads one-line .list and deb822 .sources files. Refuses to guess: a machine without an entry for a Debian
suite has no mirror, and no host name is built in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_CODENAMES: Final = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid")
SUITES: Final = frozenset((*_CODENAMES, "oldoldstable", "oldstable", "stable", "testing", "unstable"))
_POCKET: Final = re.compile(r"-(updates|backports|proposed-updates)$")
_SECURITY: Final = re.compile(r"-security$")
_ONE_LINE: Final = re.compile(
    r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)"
)


@dataclass(frozen=True, slots=True)
class Mirror:
    """signed_by: paths or fingerprints as apt takes them, an armoured key, or '' for apt's default keys."""

    uri: str
    signed_by: str


@dataclass(frozen=True, slots=True)
class _Entry:
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


def debian_mirrors(etc_apt: Path = Path("/etc/apt")) -> list[Mirror]:
    """Mirrors that carry a Debian suite's main component, likeliest first, without repeats.

    A vendor's repository may use a Debian suite's name as well. What tells the archive apart is a path that
    ends in /debian and pocket suites such as bookworm-updates, so entries with these come first.
    """
    ranked: list[tuple[int, Mirror]] = []
    for entry in _entries(etc_apt):
        plain = [suite for suite in entry.suites if _POCKET.sub("", suite) in SUITES]
        if not plain or "main" not in entry.components:
            continue
        pockets = any(_POCKET.search(suite) for suite in plain)
        for uri in entry.uris:
            archive_path = urlsplit(uri).path.rstrip("/").endswith("/debian")
            ranked.append((-2 * archive_path - pockets, Mirror(uri, entry.signed_by)))
    ranked.sort(key=lambda pair: pair[0])
    return list(dict.fromkeys(mirror for _, mirror in ranked))


def security_mirrors(etc_apt: Path = Path("/etc/apt")) -> list[Mirror]:
    """Mirrors of the security updates of a Debian suite: an archive of its own, with the suite's name in front."""
    found = [
        Mirror(uri, entry.signed_by)
        for entry in _entries(etc_apt)
        if "main" in entry.components
        and any(_SECURITY.sub("", suite) in SUITES for suite in entry.suites if _SECURITY.search(suite))
        for uri in entry.uris
    ]
    return list(dict.fromkeys(found))


def _entries(etc_apt: Path) -> Iterator[_Entry]:
    parts = etc_apt / "sources.list.d"
    for path in [etc_apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from _one_line_entries(path.read_text(errors="replace"))
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822_entries(path.read_text(errors="replace"))


def _one_line_entries(text: str) -> Iterator[_Entry]:
    for line in text.splitlines():
        found = _ONE_LINE.match(line.strip())
        if found is None:
            continue
        options = dict(option.split("=", 1) for option in (found["options"] or "").split() if "=" in option)
        yield _Entry(
            uris=(found["uri"],),
            suites=(found["suite"],),
            components=tuple(found["components"].split()),
            signed_by=options.get("signed-by", ""),
        )


def _deb822_entries(text: str) -> Iterator[_Entry]:
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n[ \t]*\n", without_comments):
        fields: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                lines.append(line.strip())
            elif ":" in line:
                name, value = line.split(":", 1)
                lines = fields.setdefault(name.strip().lower(), [])
                lines.append(value.strip())
        if "deb" not in _words(fields, "types") or _words(fields, "enabled") in (("no",), ("false",)):
            continue
        signed_by = fields.get("signed-by", [])
        if any("BEGIN PGP" in line for line in signed_by):
            # Inside a deb822 field an empty line of the armour is written as a lone full stop.
            key = "\n".join("" if line == "." else line for line in signed_by).strip() + "\n"
        else:
            key = ",".join(_words(fields, "signed-by"))
        yield _Entry(_words(fields, "uris"), _words(fields, "suites"), _words(fields, "components"), key)


def _words(fields: dict[str, list[str]], name: str) -> tuple[str, ...]:
    return tuple(" ".join(fields.get(name, [])).replace(",", " ").split())
