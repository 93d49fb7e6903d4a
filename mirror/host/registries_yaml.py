"""Puts our endpoint in front of all others in the text of a K3s or RKE2 registries.yaml. Pure.

What they make of the file at each start, read in the source of K3s (pkg/agent/containerd/config.go):

* Each name in `mirrors` gets a hosts.toml with its endpoints in order, `server` = the registry itself behind them, and
  its `rewrite` in each endpoint, ours too. `"*"` becomes `_default`.
* Each name that stands in `configs` alone gets one, too, without mirror: so it needs an entry in `mirrors` here, or it
  would hide `_default`. Its TLS and credentials stay with the registry itself.
* `configs: "*"` is lost for `_default` once `mirrors` has `"*"`.
* With --disable-default-registry-endpoint, a name in `mirrors` is pulled from its endpoints and nowhere else.

Rules
1. The user's names, endpoints, rewrites and configs stay as they are, in their order.
2. localhost and loopback addresses are left alone: nobody else can pull by such a name.
3. Text is inserted, so that comments and layout stay. Where what comes out does not say what is wanted (aliases, say),
   the whole is written anew, without comments; `Spliced.is_rewritten` tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import yaml

from containerd.hosts.errors import RegistryNameInvalid
from containerd.hosts.names import Registry
from mirror.host.errors import HostError

ALL = "*"
_MIRRORS, _CONFIGS, _ENDPOINT = "mirrors", "configs", "endpoint"
_STEP = "  "

Mapped = dict[str, object]


class RegistriesInvalid(HostError):
    """Not what K3s reads."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """`left`: names that stand there and are not mirrored, with the reason."""

    text: str
    is_rewritten: bool
    left: tuple[str, ...] = ()


def with_endpoint(text: str, url: str, where: str, *, has_default: bool = True) -> Spliced:
    """`has_default`: K3s goes on to the registry itself behind the endpoints. Without it, only names with endpoints of
    their own are given ours. Raises: RegistriesInvalid."""
    document = _read(text, where)
    mirrors, configs = _mapping(document, _MIRRORS, where), _mapping(document, _CONFIGS, where)
    wanted: Mapped = deepcopy(document)
    entries: Mapped = {key: deepcopy(value) for key, value in mirrors.items()}
    left: list[str] = []
    for name in dict.fromkeys((*mirrors, *configs, ALL)):
        if _is_loopback(name):
            continue
        entry = _entry(mirrors.get(name), name, where)
        endpoints = _endpoints(entry, name, where)
        if name == ALL and ALL in configs and ALL not in mirrors:
            left.append('"*": K3s would lose what configs say of "*" beside a mirror for "*"')
        elif not endpoints and not has_default:
            if name in mirrors or name == ALL:
                left.append(f'"{name}": without its own endpoint it would be pulled from peili alone')
        elif not any(_same(one, url) for one in endpoints[:1]):
            others = [one for one in endpoints if not _same(one, url)]
            entries[name] = {**entry, _ENDPOINT: [url, *others]}
    if entries == mirrors:
        return Spliced(text, False, tuple(left))
    wanted[_MIRRORS] = entries
    inserted = _inserted(text, mirrors, entries, url)
    if inserted is not None and _parsed(inserted) == wanted:
        return Spliced(inserted, False, tuple(left))
    return Spliced(yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True), True, tuple(left))


def _read(text: str, where: str) -> Mapped:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RegistriesInvalid(f"{where} is not YAML: {error}; mend it, and run again") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RegistriesInvalid(f"{where} is no mapping with mirrors and configs; mend it, and run again")
    return found


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def _mapping(inside: Mapped, name: str, where: str) -> Mapped:
    found = inside.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise RegistriesInvalid(f"{where}: {name} is no mapping of registries' names; mend it, and run again")
    return found


def _entry(found: object, name: str, where: str) -> Mapped:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RegistriesInvalid(f"{where}: {_MIRRORS}.{name} is no mapping; mend it, and run again")
    return found


def _endpoints(entry: Mapped, name: str, where: str) -> list[str]:
    found = entry.get(_ENDPOINT)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RegistriesInvalid(
            f"{where}: {_MIRRORS}.{name}.{_ENDPOINT} is no list of addresses; mend it, and run again"
        )
    return found


def _same(one: str, url: str) -> bool:
    return one.rstrip("/").removesuffix("/v2") == url.rstrip("/")


def _is_loopback(name: str) -> bool:
    try:
        return Registry.parse(name).is_loopback
    except RegistryNameInvalid:
        return False


# --- The text


def _inserted(text: str, before: Mapped, after: Mapped, url: str) -> str | None:
    """None where there is nothing to hold on to."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    new = {name: entry for name, entry in after.items() if name not in before}
    if root is None:
        body = text if not text or text.endswith("\n") else text + "\n"
        return f"{body}{_MIRRORS}:\n{_named(new, url, _STEP)}"
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return None
    mirrors = _value(root, _MIRRORS)
    insertions: list[tuple[int, str]] = []
    if mirrors is None:
        start = _line_start(text, root.start_mark.index)
        return f"{text[:start]}{_MIRRORS}:\n{_named(new, url, _STEP)}{text[start:]}"
    key, value = mirrors
    if not isinstance(value, yaml.MappingNode):
        # mirrors: with nothing behind it
        insertions.append((_line_end(text, key.end_mark.index), _named(new, url, _STEP)))
    elif value.flow_style:
        return None
    else:
        column = " " * value.start_mark.column
        insertions.append((_line_start(text, value.start_mark.index), _named(new, url, column)))
        for name, entry in value.value:
            if before.get(name.value) != after.get(name.value):
                insertions += _in_entry(text, name, entry, url)
    for index, more in sorted(insertions, reverse=True):
        text = text[:index] + more + text[index:]
    return text


def _named(entries: Mapped, url: str, indent: str) -> str:
    return "".join(
        f"{indent}{_scalar(name)}:\n{indent}{_STEP}{_ENDPOINT}:\n{indent}{_STEP}{_STEP}- {_scalar(url)}\n"
        for name in entries
    )


def _in_entry(text: str, name: yaml.Node, entry: yaml.Node, url: str) -> Iterator[tuple[int, str]]:
    indent = " " * name.start_mark.column
    listed = f"{indent}{_STEP}{_ENDPOINT}:\n{indent}{_STEP}{_STEP}- {_scalar(url)}\n"
    if not isinstance(entry, yaml.MappingNode):
        yield _line_end(text, name.end_mark.index), listed
        return
    found = _value(entry, _ENDPOINT)
    if found is None and not entry.flow_style:
        column = " " * entry.start_mark.column
        yield (
            _line_start(text, entry.start_mark.index),
            f"{column}{_ENDPOINT}:\n{column}{_STEP}- {_scalar(url)}\n",
        )
        return
    value = None if found is None else found[1]
    if isinstance(value, yaml.SequenceNode) and value.value:
        if value.flow_style:
            yield value.value[0].start_mark.index, f"{_scalar(url)}, "
        else:
            start = value.start_mark
            yield _line_start(text, start.index), f"{' ' * start.column}- {_scalar(url)}\n"


def _value(inside: yaml.MappingNode, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in inside.value if key.value == name), None)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _scalar(text: str) -> str:
    """In double quotes: what stands in names and addresses needs no more, and else the check finds it."""
    return f'"{text}"'
