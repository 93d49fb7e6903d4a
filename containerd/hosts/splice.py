"""Puts our entries into the text of a hosts.toml, and takes them out again without a trace.

It works on text alone; what the file must say comes from `layout`.

The scheme. TOML wants the keys of the top before any table, allows a key once, and containerd orders hosts by their
position. So there are two blocks between `# >>> peili` and `# <<< peili`: one in front of the first table, with the
top and the hosts that come first, and one at the end, with the hosts that come last. The user's tables stand between
them, byte for byte. A line of his that must not count (his `server`, say) stays where it is as a comment, behind
the mark `#peili: `, and what it said is said again in a block. Where his text cannot be kept so (hosts in inline
tables at the top, for one), all of it stays as such comments, and all it says is said again.

Rules
1. `unsplice(splice(text, wanted).)` is `text`, for every text without our marks.
2. What `splice` returns was read again and says what was wanted; else it raises.
3. A user who edits outside the blocks keeps his edits: `unsplice` gives his text with them.
4. Where he writes a key anew at the top while his old line is kept as a comment, the new one counts.
"""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.hosts_file import Host, HostsFile, read, same_options, says_the_same
from containerd.hosts.toml_text import Value, inner_tables, is_statement, logical_lines, scalars, table

BEGIN = "# >>> peili"
END = "# <<< peili"
KEPT = "#peili: "

_EXPLAIN = "# Written by `peili configure`, taken out by `peili cleanup`. Changes between these two marks are lost.\n"
_EXPLAIN_KEPT = f"# Lines behind {KEPT.strip()!r} are yours: what they said is said here, and cleanup brings them back.\n"
_JOINED = "# The line above had no line end before this block.\n"


def has_marks(text: str) -> bool:
    return any(line.strip() in (BEGIN, END) or line.startswith(KEPT) for line in text.splitlines())


def unsplice(text: str, where: str) -> str:
    """The user's text: without our blocks, and with his lines that we kept as comments.

    Raises: HostsFileInvalid when a mark lacks its partner, since nobody knows then which lines are his.
    """
    lines = list(_user_lines(text, where))
    plain = "".join(line.text for line in lines)
    if not any(line.kept for line in lines) or _is_toml(plain):
        return plain
    written_anew = _top_keys("".join(line.text for line in lines if not line.kept))
    return "".join(_without_superseded(lines, written_anew))


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    kept: bool


def _user_lines(text: str, where: str) -> Iterator[_Line]:
    opened_at = 0
    joined = False
    pending: _Line | None = None
    for number, line in enumerate(text.splitlines(keepends=True) if "\r" not in text else _lines(text), 1):
        mark = line.strip()
        if mark == BEGIN and not opened_at:
            opened_at, joined = number, False
        elif mark == END and opened_at:
            opened_at = 0
        elif mark in (BEGIN, END):
            raise _broken(where, number)
        elif opened_at:
            joined = joined or line == _JOINED
        else:
            if pending is not None:
                yield pending
            kept = line.startswith(KEPT)
            pending, joined = _Line(line.removeprefix(KEPT) if kept else line, kept), False
    if opened_at:
        raise _broken(where, opened_at)
    if pending is not None:
        yield _Line(pending.text.removesuffix("\n"), pending.kept) if joined else pending


def _lines(text: str) -> list[str]:
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
