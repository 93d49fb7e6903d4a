"""What a hosts.toml says, as values: `server`, the options beside it, and the hosts in their order.

It knows containerd's rules about types and paths, and nothing of mirrors of ours. It reads no file.

Rules
1. The order of the hosts is that of their first mention. Source: containerd sorts hosts by position (1.6,
   1.7) or takes the headers in order (2.x): core/remotes/docker/config/hosts.go, `getSortedHosts`, read.
2. Options that we do not know are kept: a later containerd may know them.
3. `ca` and `client` are paths, relative to the directory of the file that names them.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.toml_text import Table, Value, inner_tables, scalars, table, value_text

_LINE_IN_MESSAGE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


@dataclass(frozen=True, slots=True)
class Host:
    url: str
    options: Table


@dataclass(frozen=True, slots=True)
class HostsFile:
    server: str | None = None
    options: Table = field(default_factory=dict)
    """All else at the top but `host`; containerd applies it to `server`, or else to the registry."""
    hosts: tuple[Host, ...] = ()


def read(text: str, where: str) -> HostsFile:
    """Raises: HostsFileInvalid, naming `where` and, for what is not TOML, the line."""
    try:
        document: Mapping[str, Value] = tomllib.loads(text)
    except ValueError as error:
        raise _not_toml(text, where, error) from error
    except RecursionError as error:
        raise HostsFileInvalid(where, None, "nested too deeply") from error
    server = document.get("server")
    if server is not None and not isinstance(server, str):
        raise HostsFileInvalid(where, None, "`server` must be a string")
    tables = document.get("host", {})
    if not isinstance(tables, Mapping):
        raise HostsFileInvalid(where, None, '`host` must hold tables, as in [host."https://mirror.example"]')
    hosts = []
    for url, options in tables.items():
        if not isinstance(options, Mapping):
            raise HostsFileInvalid(where, None, f"host.{url} must be a table")
        _check_options(options, where, f"host.{url}: ")
        hosts.append(Host(url, options))
    options = {key: value for key, value in document.items() if key not in ("server", "host")}
    _check_options(options, where, "")
    for url in (server or "", *tables):
        _check_url(url, where)
    return HostsFile(server, options, tuple(hosts))


def _not_toml(text: str, where: str, error: ValueError) -> HostsFileInvalid:
    message = str(error)
    match = _LINE_IN_MESSAGE.search(message)
    line = int(match[1]) if match and match[1] else text.count("\n") + 1
    return HostsFileInvalid(where, line, f"not TOML: {_LINE_IN_MESSAGE.sub('', message)}")


def _check_url(url: str, where: str) -> None:
    try:
        urlsplit(url if url.startswith("http") else f"https://{url}")
    except ValueError as error:
        raise HostsFileInvalid(where, None, f"{url!r} is not an address ({error})") from error


def _check_options(options: Table, where: str, prefix: str) -> None:
    # containerd refuses the whole file for these and goes on without it: better said than built upon.
    shapes: dict[str, Callable[[Value], bool]] = {
        "capabilities": _is_strings,
        "ca": lambda value: isinstance(value, str) or _is_strings(value),
        "client": lambda value: isinstance(value, str) or _is_clients(value),
        "skip_verify": lambda value: isinstance(value, bool),
        "override_path": lambda value: isinstance(value, bool),
        "dial_timeout": lambda value: isinstance(value, str),
        "header": lambda value: (
            isinstance(value, Mapping) and all(isinstance(v, str) or _is_strings(v) for v in value.values())
        ),
    }
    for key, fits in shapes.items():
        if key in options and not fits(options[key]):
            raise HostsFileInvalid(
                where, None, f"{prefix}`{key}` does not have the form that containerd accepts"
            )


def _is_strings(value: Value) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_clients(value: Value) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, str) or (_is_strings(item) and isinstance(item, list) and len(item) == 2)
        for item in value
    )


def render(file: HostsFile) -> str:
    """The canonical text: two files that say the same, in the same order, have the same."""
    server = {} if file.server is None else {"server": file.server}
    top = {**server, **file.options}
    hosts = "".join(table(("host", host.url), host.options) for host in file.hosts)
    return scalars(top) + inner_tables((), top) + hosts


def says_the_same(left: HostsFile, right: HostsFile) -> bool:
    return render(left) == render(right)


def same_options(left: Table, right: Table) -> bool:
    """Whatever the order of the keys."""
    return left.keys() == right.keys() and all(same_value(value, right[key]) for key, value in left.items())


def same_value(left: Value, right: Value) -> bool:
    # Not `==`: to Python, 1 and true are equal, and no NaN is.
    return value_text(left) == value_text(right)


def moved(file: HostsFile, prefix: str) -> HostsFile:
    """The same file for another directory, from which `prefix` leads back to the old one."""
    hosts = tuple(Host(host.url, _moved_options(host.options, prefix)) for host in file.hosts)
    return HostsFile(file.server, _moved_options(file.options, prefix), hosts)


def _moved_options(options: Table, prefix: str) -> Table:
    return {
        key: _moved_path(value, prefix) if key in ("ca", "client") else value
        for key, value in options.items()
    }


def _moved_path(value: Value, prefix: str) -> Value:
    if isinstance(value, str):
        # An empty name is how a pair says "the key is in the other file".
        return value if not value or value.startswith("/") else f"{prefix}/{value}"
    if isinstance(value, Sequence):
        return [_moved_path(item, prefix) for item in value]
    return value


def certificate_options(names: Sequence[str]) -> Table:
    """The options that say what containerd reads from a directory without hosts.toml: *.crt, *.cert and
    *.key.

    A certificate without a key file holds its key itself; it is named twice, since the TOML parser of 1.6
    refuses a list of strings and pairs. Source: containerd, `loadCertFiles`, read.
    """
    authorities = sorted(name for name in names if name.endswith(".crt"))
    pairs = []
    for name in sorted(name for name in names if name.endswith(".cert")):
        key = name.removesuffix(".cert") + ".key"
        pairs.append([name, key if key in names else name])
    options: dict[str, Value] = {}
    if authorities:
        options["ca"] = authorities
    if pairs:
        options["client"] = pairs
    return options
