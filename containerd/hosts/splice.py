"""Puts our entries into the text of a hosts.toml, and takes them out again without a trace.

It works on text alone; what the file must say comes from `layout`.

The scheme. TOML wants the keys of the top before any table and allows a key once, and containerd orders
hosts by their position. So there are up to two blocks between `# >>> peili` and `# <<< peili`: one in
front of the first table, with the top and the hosts that come first, and one at the end, with the hosts
that come last. The user's tables stand between them, byte for byte. A line of his that must not count
there (his `server`, or a host that he wrote in front of the first table) stays where it is as a comment,
behind `#peili: `, and what it said is said again in a block.

Rules
1. `unsplice(splice(text, wanted))` is `text`, for every text without our marks.
2. What `splice` returns was read again and says what was wanted, in that order; else it raises.
3. A user who edits outside the blocks keeps his edits: `unsplice` gives his text with them.
4. Where he writes a key anew while his old line is kept as a comment, the new one counts.
"""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.hosts_file import Host, HostsFile, read, same_options, same_value, says_the_same
from containerd.hosts.toml_text import Table, inner_tables, is_statement, logical_lines, scalars, table

BEGIN = "# >>> peili"
END = "# <<< peili"
KEPT = "#peili: "

_EXPLAIN = (
    "# Written by `peili configure`, taken out by `peili cleanup`. Changes between these marks are lost.\n"
)
_EXPLAIN_KEPT = (
    f"# Lines behind {KEPT.strip()!r} are yours. What they said is said here; cleanup brings them back.\n"
)
_JOINED = "# The line above this block had no line end.\n"


def has_marks(text: str) -> bool:
    return any(line.strip() in (BEGIN, END) or line.startswith(KEPT) for line in _lines(text))


def unsplice(text: str, where: str) -> str:
    """The user's text: without our blocks, and with his lines that we kept as comments.

    Raises: HostsFileInvalid when a mark lacks its partner, since nobody knows then which lines are his.
    """
    lines = list(_user_lines(text, where))
    plain = "".join(line.text for line in lines)
    if not any(line.kept for line in lines) or _is_toml(plain):
        return plain
    try:
        return "".join(_without_superseded(lines))
    except tomllib.TOMLDecodeError:
        return plain


def with_empty_blocks(text: str, where: str) -> str:
    """The user's text with an empty line for each of ours: line numbers are those of the file."""
    user = {line.number: line.text for line in _user_lines(text, where)}
    return "".join(user.get(number, "\n") for number in range(1, len(_lines(text)) + 1))


def splice(text: str, wanted: HostsFile, where: str) -> str:
    """`text` with our blocks. `text` is the user's own, as `unsplice` gives it.

    Raises: HostsFileInvalid when it is not TOML, or nothing that we can write says what is wanted.
    """
    result = _with_blocks(text, read(text, where), wanted)
    if _is_toml(result) and says_the_same(read(result, where), wanted):
        return result
    raise HostsFileInvalid(where, None, "our entries cannot be joined with what stands there")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: str
    kept: bool


def _user_lines(text: str, where: str) -> Iterator[_Line]:
    opened_at = 0
    joined = False
    pending: _Line | None = None
    for number, line in enumerate(_lines(text), 1):
        mark = line.strip()
        if mark == BEGIN and not opened_at:
            opened_at, joined = number, False
        elif mark == END and opened_at:
            opened_at = 0
        elif mark in (BEGIN, END):
            raise _unpaired(where, number)
        elif opened_at:
            joined = joined or line == _JOINED
        else:
            if pending is not None:
                yield pending
            pending, joined = _Line(number, line.removeprefix(KEPT), line.startswith(KEPT)), False
    if opened_at:
        raise _unpaired(where, opened_at)
    if pending is not None:
        end = pending.text.removesuffix("\n") if joined else pending.text
        yield _Line(pending.number, end, pending.kept)


def _unpaired(where: str, line: int) -> HostsFileInvalid:
    return HostsFileInvalid(where, line, f"a mark without its partner ({BEGIN!r} opens, {END!r} closes)")


def _without_superseded(lines: Sequence[_Line]) -> Iterator[str]:
    """Raises: TOMLDecodeError when one of the two parts alone is no TOML either."""
    kept = "".join(line.text for line in lines if line.kept)
    written_anew = {
        _subject(piece.path) for piece in _pieces("".join(line.text for line in lines if not line.kept))
    }
    verdicts = [
        _subject(piece.path) not in written_anew for piece in _pieces(kept) for _ in _lines(piece.text)
    ]
    verdict = iter(verdicts)
    for line in lines:
        if not line.kept or next(verdict):
            yield line.text


@dataclass(frozen=True, slots=True)
class _Piece:
    """A statement, comment or empty line, with its line end. `path` is empty for what is no statement."""

    text: str
    path: tuple[str, ...]
    is_header: bool
    in_table: bool


def _pieces(text: str) -> Iterator[_Piece]:
    """Raises: TOMLDecodeError."""
    tomllib.loads(text)
    section: tuple[str, ...] = ()
    for line in logical_lines(text):
        if not is_statement(line):
            yield _Piece(line, (), False, bool(section))
        elif line.lstrip().startswith("["):
            section = _first_path(line)
            yield _Piece(line, section, True, True)
        else:
            yield _Piece(line, (*section, *_first_path(line)), False, bool(section))


def _first_path(statement: str) -> tuple[str, ...]:
    path: list[str] = []
    inside: object = tomllib.loads(statement)
    while isinstance(inside, dict) and len(inside) == 1:
        ((key, inside),) = inside.items()
        path.append(key)
    return tuple(path)


def _subject(path: tuple[str, ...]) -> tuple[str, ...]:
    """What cannot be said twice: a key of the top, or one host."""
    return path[:2] if path[:1] == ("host",) else path[:1]


def _with_blocks(text: str, local: HostsFile, wanted: HostsFile) -> str:
    pieces = list(_pieces(text))
    local_top, wanted_top = _top(local), _top(wanted)
    keeps_top = local.server == wanted.server and all(
        key in wanted_top and same_value(value, wanted_top[key]) for key, value in local_top.items()
    )
    stay = _hosts_that_stay(pieces, local, wanted)
    out = [piece.text if _stays(piece, keeps_top, stay) else _commented(piece.text) for piece in pieces]

    missing = {key: value for key, value in wanted_top.items() if not (keeps_top and key in local_top)}
    staying_at = [index for index, host in enumerate(wanted.hosts) if host.url in stay]
    before = wanted.hosts[: staying_at[0]] if staying_at else wanted.hosts
    after = wanted.hosts[staying_at[-1] + 1 :] if staying_at else ()
    front_at = _front(pieces)
    head = _with_block("".join(out[:front_at]), _EXPLAIN + _notice(out) + _body(missing, before))
    return _with_block(head + "".join(out[front_at:]), _body({}, after))


def _top(file: HostsFile) -> Table:
    return dict(file.options) if file.server is None else {"server": file.server, **file.options}


def _hosts_that_stay(pieces: Iterable[_Piece], local: HostsFile, wanted: HostsFile) -> frozenset[str]:
    """Those that are wanted as they stand, and stand in tables: what stands in front of those is moved."""
    loose = {
        url
        for piece in pieces
        if piece.path[:1] == ("host",) and not piece.in_table
        for url in (piece.path[1:2] or [host.url for host in local.hosts])
    }
    as_they_are = {host.url: host.options for host in local.hosts if host.url not in loose}
    # The first is ours: the user may have it too, elsewhere.
    return frozenset(
        host.url
        for host in wanted.hosts[1:]
        if host.url in as_they_are and same_options(host.options, as_they_are[host.url])
    )


def _stays(piece: _Piece, keeps_top: bool, hosts: frozenset[str]) -> bool:
    if piece.path[:1] != ("host",):
        return keeps_top or not piece.path
    if not piece.in_table:
        return False
    return len(piece.path) == 1 or piece.path[1] in hosts


def _front(pieces: Sequence[_Piece]) -> int:
    """The index of the first header, or of the comment that stands directly above it."""
    index = next((index for index, piece in enumerate(pieces) if piece.is_header), len(pieces))
    if index < len(pieces):
        while index and pieces[index - 1].text.lstrip().startswith("#"):
            index -= 1
    return index


def _commented(text: str) -> str:
    return "".join(KEPT + line for line in _lines(text))


def _notice(lines: Iterable[str]) -> str:
    return _EXPLAIN_KEPT if any(line.startswith(KEPT) for line in lines) else ""


def _body(top: Table, hosts: Sequence[Host]) -> str:
    tables = inner_tables((), top) + "".join(table(("host", host.url), host.options) for host in hosts)
    return scalars(top) + tables


def _with_block(text: str, content: str) -> str:
    """`text` and, behind it, a block with `content`; no block when there is nothing to say."""
    if not content:
        return text
    joined = bool(text) and not text.endswith("\n")
    return f"{text}{chr(10) if joined else ''}{BEGIN}\n{_JOINED if joined else ''}{content}{END}\n"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except ValueError:
        return False
    return True


def _lines(text: str) -> list[str]:
    """With their ends. Not `splitlines`, which also cuts at characters that a comment may hold."""
    lines = [line + "\n" for line in text.split("\n")]
    return [*lines[:-1], lines[-1][:-1]] if lines[-1] != "\n" else lines[:-1]
