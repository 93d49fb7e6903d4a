"""What the settings of a command amount to together: its dataclass, and what is odd about it. Pure: what only
the machine can tell comes as `Surroundings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path, PurePosixPath
from re import Pattern
from typing import Generic, TypeVar

from dht.endpoints import canonical, is_local, scope
from mirror.errors import SettingsError
from mirror.log import LogFormat
from mirror.settings import table
from mirror.settings.load import Values
from mirror.settings.model import (
    Address,
    ArchiveSettings,
    AskingSettings,
    Bootstrap,
    CleanupSettings,
    CleanupWaitSettings,
    ConfigureSettings,
    ContainerdStoreSettings,
    DirectoryStoreSettings,
    DnsBootstrap,
    DoctorSettings,
    DownSettings,
    HostsSettings,
    LanBootstrap,
    OriginUse,
    ServeSettings,
    StaticBootstrap,
    StoreKind,
    Switch,
    Tags,
)
from mirror.settings.setting import Command, Setting

Settings = TypeVar(
    "Settings",
    ServeSettings,
    ConfigureSettings,
    CleanupSettings,
    CleanupWaitSettings,
    AskingSettings,
    DoctorSettings,
    DownSettings,
    ArchiveSettings,
)

DEFAULT_DATA_DIR = PurePosixPath("/var/lib/peili")
# Below the data directory.
STORE_FOLDER = "store"
# What each spool may have where nothing shall be cached: without one there are no downloads.
SPOOL_BYTES = 10 * 2**30


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a default depends on. `working_dir` is what relative paths are relative to."""

    working_dir: Path
    has_ipv6: bool
    is_terminal: bool


@dataclass(frozen=True, slots=True)
class Resolved(Generic[Settings]):
    """`warnings` are one line each, for the log or for standard error."""

    settings: Settings
    warnings: tuple[str, ...]


def serve(values: Values, around: Surroundings, default_data_dir: Path) -> Resolved[ServeSettings]:
    """Raises: SettingsError."""
    warnings = list(values.warnings)
    data_dir = _maybe_path(values.maybe(table.DATA_DIR), around) or default_data_dir
    metrics_addr = values.one(table.METRICS_ADDR)
    peer_addr = _listen(values.one(table.PEER_ADDR), around)
    settings = ServeSettings(
        store=_store(values, data_dir, around, warnings),
        data_dir=data_dir,
        registry_addr=_listen(values.one(table.REGISTRY_ADDR), around),
        peer_addr=peer_addr,
        admin_addr=_listen(values.one(table.ADMIN_ADDR), around),
        metrics_addr=None if metrics_addr is None else _listen(metrics_addr, around),
        advertise_addr=values.maybe(table.ADVERTISE_ADDR),
        bootstrap=tuple(_with_port(values, entry, peer_addr) for entry in values.all(table.BOOTSTRAP)),
        cluster=values.one(table.CLUSTER),
        cluster_secret_file=_maybe_path(values.maybe(table.CLUSTER_SECRET_FILE), around),
        mirrors=values.all(table.MIRROR),
        filters=values.all(table.FILTER),
        origin=values.one(table.ORIGIN),
        verify=values.one(table.VERIFY),
        tags=values.one(table.TAGS),
        stale_private=values.all(table.STALE_PRIVATE),
        protect=values.all(table.PROTECT),
        docker_config=_maybe_path(values.maybe(table.DOCKER_CONFIG), around),
        spool_size_bytes=values.one(table.CACHE_SIZE) or SPOOL_BYTES,
        hosts=_hosts(
            values,
            _listen(values.one(table.REGISTRY_ADDR), around),
            around,
            add_registries=values.one(table.ADD_REGISTRIES) is Switch.ON,
        ),
        log_level=values.one(table.LOG_LEVEL),
        log_format=values.maybe(table.LOG_FORMAT)
        or (LogFormat.TEXT if around.is_terminal else LogFormat.JSON),
    )
    _check_listeners(values, settings)
    _check_advertised(values, settings)
    if settings.cluster_secret_file is None:
        _check_private(values, settings)
    warnings += _exposed(settings) + _unheard(settings) + _unused(values, settings)
    return Resolved(settings, tuple(warnings))


def configure(values: Values, around: Surroundings) -> Resolved[ConfigureSettings]:
    """Raises: SettingsError."""
    address = values.one(table.REGISTRY_ADDR)
    if address.port == 0:
        raise values.error(
            table.REGISTRY_ADDR, f"'{address}' has port 0: containerd needs the port that serve listens at"
        )
    settings = ConfigureSettings(
        hosts=_hosts(values, address, around, add_registries=False),
        tags=values.one(table.TAGS),
        mirrors=values.all(table.MIRROR),
        containerd_sock=_path(values.one(table.CONTAINERD_SOCK), around),
    )
    return Resolved(settings, tuple(values.warnings))


def cleanup(values: Values, around: Surroundings) -> Resolved[CleanupSettings]:
    stay_addr = values.maybe(table.STAY_ADDR)
    settings = CleanupSettings(
        hosts_dir=_path(values.one(table.HOSTS_DIR), around),
        remove_data_dir=_maybe_path(values.maybe(table.REMOVE_DATA_DIR), around),
        stay_addr=None if stay_addr is None else _listen(stay_addr, around),
    )
    return Resolved(settings, tuple(values.warnings))


def down(values: Values, around: Surroundings, default_data_dir: Path) -> Resolved[DownSettings]:
    data_dir = _maybe_path(values.maybe(table.DATA_DIR), around) or default_data_dir
    return Resolved(DownSettings(data_dir), tuple(values.warnings))


def cleanup_wait(values: Values) -> Resolved[CleanupWaitSettings]:
    settings = CleanupWaitSettings(
        wait_for=values.one(table.WAIT_FOR), give_up_after_s=values.one(table.GIVE_UP_AFTER)
    )
    return Resolved(settings, tuple(values.warnings))


def asking(values: Values) -> Resolved[AskingSettings]:
    """Raises: SettingsError."""
    address = values.one(table.ADMIN_ADDR)
    if address.port == 0:
        raise values.error(
            table.ADMIN_ADDR,
            f"'{address}' has port 0, which is any free one to serve: give the port that its log names",
        )
    return Resolved(AskingSettings(address.from_this_host), tuple(values.warnings))


def doctor(values: Values, around: Surroundings) -> Resolved[DoctorSettings]:
    settings = DoctorSettings(
        containerd_sock=_path(values.one(table.CONTAINERD_SOCK), around),
        containerd_namespaces=values.all(table.CONTAINERD_NAMESPACE),
        containerd_content_path=_maybe_path(values.maybe(table.CONTAINERD_CONTENT_PATH), around),
        containerd_config_path=values.maybe(table.CONTAINERD_CONFIG_PATH),
        hosts_dir=_path(values.one(table.HOSTS_DIR), around),
        registry_addr=_listen(values.one(table.REGISTRY_ADDR), around),
        peer_addr=_listen(values.one(table.PEER_ADDR), around),
        admin_addr=_listen(values.one(table.ADMIN_ADDR), around),
        configured_addr=values.maybe(table.CONFIGURED_ADDR),
        mirrors=values.all(table.MIRROR),
    )
    return Resolved(settings, tuple(values.warnings))


def archive(values: Values, around: Surroundings) -> Resolved[ArchiveSettings]:
    """Of import and export. Raises: SettingsError."""
    warnings = list(values.warnings)
    store_dir = None
    cache_size_bytes = values.one(table.CACHE_SIZE) if values.command is Command.IMPORT else None
    data_dir = _maybe_path(values.maybe(table.DATA_DIR), around) or around.working_dir / DEFAULT_DATA_DIR
    if _kind(values) is StoreKind.DIRECTORY:
        if cache_size_bytes == 0:
            raise _no_room(values)
        store_dir = _maybe_path(values.maybe(table.STORE_DIR), around) or data_dir / STORE_FOLDER
        warnings += _idle(values, (table.CONTAINERD_SOCK, table.CONTAINERD_NAMESPACE), "the directory store")
    else:
        warnings += _idle(values, (table.STORE_DIR,), "containerd's store")
    settings = ArchiveSettings(
        _path(values.one(table.CONTAINERD_SOCK), around),
        values.all(table.CONTAINERD_NAMESPACE),
        store_dir,
        cache_size_bytes,
        data_dir,
    )
    return Resolved(settings, tuple(warnings))


def described(settings: ServeSettings | ConfigureSettings | CleanupSettings) -> dict[str, object]:
    """Every value, for the log. Nothing in it is secret: secrets are in files, and only paths are here."""
    return dict(_described(settings))


def _described(part: object) -> Iterator[tuple[str, object]]:
    assert is_dataclass(part)
    for item in fields(part):
        value: object = getattr(part, item.name)
        match value:
            case HostsSettings():
                yield from _described(value)
            case ContainerdStoreSettings() | DirectoryStoreSettings():
                is_containerd = isinstance(value, ContainerdStoreSettings)
                yield item.name, (StoreKind.CONTAINERD if is_containerd else StoreKind.DIRECTORY).value
                yield from _described(value)
            case tuple():
                yield (
                    item.name,
                    [entry.pattern if isinstance(entry, Pattern) else str(entry) for entry in value],
                )
            case int() | None:
                yield item.name, value
            case _:
                yield item.name, str(value)


def _hosts(values: Values, address: Address, around: Surroundings, *, add_registries: bool) -> HostsSettings:
    return HostsSettings(
        hosts_dir=_path(values.one(table.HOSTS_DIR), around),
        registry_url=f"http://{address.from_this_host}",
        stale_tags=values.one(table.STALE_TAGS),
        containerd_config_path=values.maybe(table.CONTAINERD_CONFIG_PATH),
        add_registries=add_registries,
    )


def _unused(values: Values, settings: ServeSettings) -> list[str]:
    warnings = []
    if settings.docker_config is not None and settings.origin is not OriginUse.RELAY:
        warnings.append(f"--docker-config has no effect with --origin {settings.origin}")
    if settings.stale_private and settings.tags is not Tags.UPSTREAM:
        warnings.append(f"--stale-private has no effect with --tags {settings.tags}")
    if settings.tags is Tags.UPSTREAM and settings.origin is OriginUse.OFF and values.is_given(table.TAGS):
        warnings.append(
            "--tags upstream answers no tag with --origin off: whether the registry is away cannot be seen; "
            "--tags peers answers without it"
        )
    return warnings


def _store(
    values: Values, data_dir: Path, around: Surroundings, warnings: list[str]
) -> ContainerdStoreSettings | DirectoryStoreSettings:
    of_containerd = (table.CONTAINERD_SOCK, table.CONTAINERD_NAMESPACE, table.CONTAINERD_CONTENT_PATH)
    cache_size_bytes = values.one(table.CACHE_SIZE)
    if _kind(values) is StoreKind.DIRECTORY:
        if not cache_size_bytes:
            raise _no_room(values)
        warnings += _idle(values, of_containerd, "the directory store")
        return DirectoryStoreSettings(
            store_dir=_maybe_path(values.maybe(table.STORE_DIR), around) or data_dir / STORE_FOLDER,
            cache_size_bytes=cache_size_bytes,
        )
    warnings += _idle(values, (table.STORE_DIR,), "containerd's store")
    return ContainerdStoreSettings(
        containerd_sock=_path(values.one(table.CONTAINERD_SOCK), around),
        containerd_namespaces=values.all(table.CONTAINERD_NAMESPACE),
        containerd_content_path=_maybe_path(values.maybe(table.CONTAINERD_CONTENT_PATH), around),
        cache_size_bytes=cache_size_bytes,
    )


def _kind(values: Values) -> StoreKind:
    kind = values.one(table.STORE)
    if kind is StoreKind.AUTO:
        return StoreKind.DIRECTORY if values.is_given(table.STORE_DIR) else StoreKind.CONTAINERD
    return kind


def _no_room(values: Values) -> SettingsError:
    return values.error(table.CACHE_SIZE, "'0' leaves the directory store no room: give it some")


def _idle(values: Values, settings: tuple[Setting[object], ...], store: str) -> list[str]:
    return [f"{setting.flag} has no effect on {store}" for setting in settings if values.is_given(setting)]


def _check_listeners(values: Values, settings: ServeSettings) -> None:
    listeners: list[tuple[Setting[object], Address]] = [
        (table.REGISTRY_ADDR, settings.registry_addr),
        (table.PEER_ADDR, settings.peer_addr),
        (table.ADMIN_ADDR, settings.admin_addr),
    ]
    if settings.metrics_addr is not None:
        listeners.append((table.METRICS_ADDR, settings.metrics_addr))
    for position, (setting, address) in enumerate(listeners):
        for earlier, taken in listeners[:position]:
            if not address.collides_with(taken):
                continue
            # Blame what the user wrote, not a default that was in its way.
            if values.is_given(setting) or not values.is_given(earlier):
                raise _taken(values, setting, address, earlier, taken)
            raise _taken(values, earlier, taken, setting, address)


def _taken(
    values: Values, setting: Setting[object], address: Address, other: Setting[object], taken: Address
) -> SettingsError:
    return values.error(setting, f"'{address}' is taken by {other.flag} {taken}: choose another port")


def _with_port(values: Values, entry: Bootstrap, peer_addr: Address) -> Bootstrap:
    if not isinstance(entry, DnsBootstrap) or entry.port:
        return entry
    if peer_addr.port == 0:
        raise values.error(
            table.BOOTSTRAP,
            f"'dns:{entry.name}' has no port, and --peer-addr {peer_addr} takes any free one: give the port of the "
            f"other peers, as in dns:{entry.name}:29021",
        )
    return dataclasses.replace(entry, port=peer_addr.port)


def _check_advertised(values: Values, settings: ServeSettings) -> None:
    """Against where the daemon listens: what it says of itself must lead there."""
    advertised, peer_addr = settings.advertise_addr, settings.peer_addr
    if advertised is None:
        return
    if peer_addr.is_loopback != (scope(advertised) == "loopback"):
        raise values.error(
            table.ADVERTISE_ADDR,
            f"{advertised!r} does not lead to --peer-addr {peer_addr}: loopback is reached from this host alone, and "
            f"only by a loopback address; leave the flag out, or choose another --peer-addr",
        )
    listens_at = canonical(peer_addr.host)
    # A listener at :: serves IPv4 as well.
    if listens_at != "::" and (":" in advertised) != (":" in listens_at):
        raise values.error(
            table.ADVERTISE_ADDR,
            f"{advertised!r} does not lead to --peer-addr {peer_addr}, which listens to the other IP version; give an "
            f"address of the same version",
        )


def _check_private(values: Values, settings: ServeSettings) -> None:
    """Without a secret nobody with a public address is spoken to: such an address is a mistake to tell at once."""
    addresses: list[tuple[Setting[object], Address]] = [(table.PEER_ADDR, settings.peer_addr)]
    addresses += [
        (table.BOOTSTRAP, entry.address)
        for entry in settings.bootstrap
        if isinstance(entry, StaticBootstrap) and not entry.address.is_name
    ]
    for setting, address in addresses:
        if not address.is_every_address and not is_local(address.host):
            raise values.error(
                setting,
                f"'{address}' is a public address: without --cluster-secret-file only private ones take part; "
                f"give the cluster a secret",
            )


def _unheard(settings: ServeSettings) -> list[str]:
    """What is said to nobody."""
    warnings = []
    if settings.advertise_addr is not None and settings.cluster_secret_file is None:
        warnings.append(
            "--advertise-addr has no effect without --cluster-secret-file: others take the address that datagrams "
            "come from"
        )
    if settings.peer_addr.is_loopback and any(isinstance(one, LanBootstrap) for one in settings.bootstrap):
        warnings.append(
            f"--bootstrap lan finds nobody: --peer-addr {settings.peer_addr} is reached from this host alone"
        )
    return warnings


def _exposed(settings: ServeSettings) -> list[str]:
    warnings = []
    if not settings.registry_addr.is_loopback:
        warnings.append(
            f"--registry-addr {settings.registry_addr} is not loopback: "
            f"whoever reaches it can read cached images by digest"
        )
    if not settings.admin_addr.is_loopback:
        warnings.append(
            f"--admin-addr {settings.admin_addr} is not loopback: "
            f"whoever reaches it can see what this host pulls"
        )
    return warnings


def _listen(address: Address, around: Surroundings) -> Address:
    if address.host:
        return address
    return Address("::" if around.has_ipv6 else "0.0.0.0", address.port)  # noqa: S104 - asked for


def _path(path: PurePosixPath, around: Surroundings) -> Path:
    return around.working_dir / path


def _maybe_path(path: PurePosixPath | None, around: Surroundings) -> Path | None:
    return None if path is None else _path(path, around)
