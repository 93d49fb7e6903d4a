"""What containerd's configuration says of registries and layers, from `containerd config dump` or from its files. Pure:
texts come in, nothing is read.

Rules
1. A dump is complete. Files say only what differs from the defaults, which depend on the release.
2. Imported files count after the main one. 1.6 and 1.7 put the plugin's table of an imported file in the place of the
   main file's, whole: whatever the main file said of that plugin is gone; 2.1 joins them key by key (measured).
3. The tables have three names, by the version of the file: `plugins.cri` (1), `io.containerd.grpc.v1.cri` (2),
   `io.containerd.cri.v1.images` (3); containerd 2 reads all of them.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from containerd.hosts.search import DEFAULT_LIST, LIST_SINCE

TRANSFER_SINCE = (2, 1)
"""The first release whose CRI pulls through the transfer service, which does not split a list in config_path."""

MERGES_SINCE = (2, 0)
"""The first major release that joins the tables of imported files (rule 2); measured on 2.1."""

_DEFAULT_DOWNLOADS = 3
_PLUGIN_2 = "io.containerd.grpc.v1.cri"
_PLUGINS = ("cri", _PLUGIN_2, "io.containerd.cri.v1.images")

Table = Mapping[str, object]


class ConfigInvalid(ValueError):
    """Not TOML. containerd would not start with it, or not reread it."""


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    config_path: str
    """"" when it is not set: no hosts.toml is read."""
    discards_layers: bool
    uses_transfer_service: bool
    legacy: tuple[str, ...]
    """Names of registries in `registry.mirrors`, or with `tls` in `registry.configs`: they exclude config_path."""
    has_cri: bool = True
    """False: `disabled_plugins` has it. Then nobody reads config_path; Docker and nerdctl have directories of their
    own."""


def imports(text: str) -> tuple[str, ...]:
    """The patterns of files that the main file imports, in its order. Raises: ConfigInvalid."""
    listed = _read(text).get("imports", [])
    return tuple(item for item in listed if isinstance(item, str)) if isinstance(listed, list) else ()


def effective(texts: Sequence[str], release: tuple[int, int]) -> EffectiveConfig:
    """`texts`: a dump alone, or the main file and those that it imports, in order. Raises: ConfigInvalid."""
    documents = [_read(text) for text in texts]
    has_cri = not any(map(_disables_cri, documents))
    said: Table = {}
    if release >= MERGES_SINCE:
        for document in documents:
            said = _joined(said, _said(_table(document, "plugins"), document.get("version")))
    else:
        plugins: dict[str, object] = {}
        for document in documents:
            plugins |= _table(document, "plugins")
        said = _said(plugins, None)
    return _config(said, release, has_cri=has_cri)


def _said(plugins: Table, version: object) -> Table:
    """Of one file; in one of version 2, containerd 2 lets its own table go before that of version 3 (measured)."""
    names = sorted(_PLUGINS, key=lambda name: name == _PLUGIN_2) if version == 2 else _PLUGINS
    said: Table = {}
    for name in names:
        said = _joined(said, _table(plugins, name))
    return said


def _disables_cri(document: Table) -> bool:
    listed = document.get("disabled_plugins", [])
    return isinstance(listed, list) and any(name in _PLUGINS for name in listed)


def _config(said: Table, release: tuple[int, int], *, has_cri: bool) -> EffectiveConfig:
    registry = _table(said, "registry")
    default_path = DEFAULT_LIST if release >= LIST_SINCE else ""
    config_path = registry.get("config_path", default_path)
    # In version 2 files it stands one table deeper.
    discards = said.get("discard_unpacked_layers", _table(said, "containerd").get("discard_unpacked_layers"))
    legacy = tuple(sorted(_legacy(registry)))
    # Source: containerd, read: what the transfer service cannot do makes CRI pull by itself.
    pulls_itself = (
        said.get("use_local_image_pull") is True
        or discards is True
        or bool(legacy)
        or said.get("max_concurrent_downloads", _DEFAULT_DOWNLOADS) != _DEFAULT_DOWNLOADS
    )
    return EffectiveConfig(
        config_path if isinstance(config_path, str) else "",
        discards is True,
        release >= TRANSFER_SINCE and not pulls_itself,
        legacy,
        has_cri,
    )


def _legacy(registry: Table) -> set[str]:
    with_tls = {name for name, it in _table(registry, "configs").items() if _has_tls(it)}
    return {*_table(registry, "mirrors"), *with_tls}


def _has_tls(config: object) -> bool:
    # A dump writes the table where only credentials were given, with nothing in it.
    tls = config.get("tls") if isinstance(config, Mapping) else None
    return isinstance(tls, Mapping) and any(bool(value) for value in tls.values())


def _read(text: str) -> Table:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(str(error)) from error


def _table(inside: Table, name: str) -> Table:
    found = inside.get(name, {})
    return found if isinstance(found, Mapping) else {}


def _joined(first: Table, second: Table) -> dict[str, object]:
    joined = dict(first)
    for key, value in second.items():
        before = joined.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            joined[key] = _joined(before, value)
        else:
            joined[key] = value
    return joined
