"""What is wrong with containerd and its configuration, as far as pulls through us go. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from containerd.effective_config import EffectiveConfig
from containerd.hosts.search import search_path
from mirror.doctor.distribution import config_file, configure_command, distribution
from mirror.doctor.facts import Facts
from mirror.doctor.finding import Code, Finding
from mirror.host.distribution import CRI_NAMESPACE, Kind, registry_table
from mirror.host.facts import Answer

# Older ones do not read hosts.toml as it is written here, and nobody tries them.
OLDEST = (1, 6)


def check(facts: Facts) -> Iterator[Finding]:
    if facts.containerd.answer is not Answer.ANSWERS:
        yield _unanswered(facts)
        return
    yield from _version(facts)
    yield from _network(facts)
    yield from _config(facts)
    yield from _content(facts)


def _unanswered(facts: Facts) -> Finding:
    seen, asked, kind = facts.containerd, facts.asked, distribution(facts)
    match seen.answer:
        case Answer.ABSENT:
            others = tuple(
                f"give serve, configure and doctor --containerd-sock {one}" for one in seen.other_socks
            )
            more = f"; a socket is at {', '.join(seen.other_socks)}" if seen.other_socks else ""
            return Finding(
                Code.CONTAINERD_ABSENT,
                f"there is no containerd socket at {asked.sock}",
                f"{seen.trouble}{more}",
                others or (kind.start,),
            )
        case Answer.FORBIDDEN:
            return Finding(
                Code.CONTAINERD_FORBIDDEN,
                "this user may not open containerd's socket",
                seen.trouble,
                ("run serve and doctor as root, or as a user that may read and write the socket",),
            )
        case _:
            return Finding(
                Code.CONTAINERD_SILENT,
                f"nothing answers as containerd at {asked.sock}",
                seen.trouble,
                (kind.restart,),
            )


def _version(facts: Facts) -> Iterator[Finding]:
    release = facts.containerd.release
    if (0, 0) < release < OLDEST:
        yield Finding(
            Code.CONTAINERD_TOO_OLD,
            f"containerd is older than {OLDEST[0]}.{OLDEST[1]}, the oldest that works with Peili",
            f"version {facts.containerd.version}",
            ("upgrade containerd to 1.7 or later",),
        )


def _network(facts: Facts) -> Iterator[Finding]:
    """The daemon answers at this process's loopback, so its network is ours; unless it does not, and then nothing is
    known of it but that containerd's loopback is not where it is looked for."""
    theirs, ours = facts.containerd.network, facts.listen.network
    if theirs is None or ours is None or theirs == ours or not facts.asked.registry_is_loopback:
        return
    yield Finding(
        Code.CONTAINERD_OTHER_NETWORK,
        "containerd runs in another network namespace (rootless, or in a container): its loopback is not this one, so "
        f"it cannot reach {facts.asked.registry_addr}",
        f"containerd's network is {theirs}, this one is {ours}",
        (
            "run serve and doctor where containerd runs: in the same container, or by nsenter --net --target PID of "
            "containerd",
        ),
    )


def _config(facts: Facts) -> Iterator[Finding]:
    if CRI_NAMESPACE not in facts.asked.namespaces or distribution(facts).kind is Kind.DOCKER:
        # config_path is CRI's; Docker has a directory of its own.
        return
    found = facts.containerd.config
    if found is None or found.effective is None:
        yield Finding(
            Code.CONFIG_UNKNOWN,
            "containerd's configuration could not be read: whether it reads hosts.toml is not known",
            "no configuration was found" if found is None else f"{found.source}: {found.trouble}",
            ("run doctor as root on the host itself, where containerd's config.toml is",),
        )
        return
    if found.is_newer:
        yield Finding(
            Code.RESTART_PENDING,
            "containerd's configuration was changed after containerd was started; it does not know the change",
            found.source,
            (distribution(facts).restart,),
        )
    config = found.effective
    if not config.has_cri:
        return
    yield from _config_path(facts, config, found.source)
    if config.legacy and config.config_path:
        yield Finding(
            Code.LEGACY_REGISTRY_TABLES,
            "registry.mirrors or registry.configs stand beside config_path: containerd 1.x refuses its CRI plugin for "
            "that, containerd 2 ignores or deprecates them",
            f"{found.source} has them for {', '.join(config.legacy)}",
            (
                f"remove registry.mirrors and the tls tables of registry.configs from {config_file(facts)}; what they "
                f"say belongs into {facts.asked.hosts_dir}/REGISTRY/hosts.toml",
                configure_command(facts),
                distribution(facts).restart,
            ),
        )
    if config.discards_layers:
        yield Finding(
            Code.LAYERS_DISCARDED,
            "containerd throws layers away once they are unpacked; the daemon keeps them itself, up to --cache-size",
            f"{found.source}: discard_unpacked_layers = true",
            ("nothing has to be done; with false, nothing is stored twice",),
        )


def _config_path(facts: Facts, config: EffectiveConfig, source: str) -> Iterator[Finding]:
    asked, release = facts.asked, facts.containerd.release
    kind = distribution(facts)
    edit = f'in {config_file(facts)} set, below {registry_table(release)}: config_path = "{asked.hosts_dir}"'
    if not config.config_path:
        legacy = (
            "; registry.mirrors and registry.configs have to go, too, to hosts.toml" if config.legacy else ""
        )
        yield Finding(
            Code.CONFIG_PATH_UNSET,
            "containerd reads no hosts.toml: config_path is not set",
            f"{source}: config_path is empty (before 2.0, a file of `imports` that has a table of this plugin puts "
            "it in the place of the main file's, whole)",
            (f"{edit}{legacy}", kind.restart),
        )
        return
    search = search_path(asked.hosts_dir, config.config_path, release)
    if search.warnings:
        one = config.config_path.partition(":")[0]
        yield Finding(
            Code.CONFIG_PATH_ELSEWHERE,
            f"containerd does not read what is below {asked.hosts_dir}",
            f'{source}: config_path = "{config.config_path}"',
            (f"give serve, configure and doctor --hosts-dir {one}", f"or {edit}", kind.restart),
        )
        return
    if ":" in config.config_path and config.uses_transfer_service and not facts.hosts.has_literal:
        yield Finding(
            Code.CONFIG_PATH_LIST,
            "containerd takes the whole list in config_path for the name of one directory, and reads no hosts.toml "
            "there (transfer service, from 2.1 on)",
            f'{source}: config_path = "{config.config_path}"',
            (
                configure_command(facts, f"--containerd-config-path {config.config_path}"),
                f"or, for good, {edit}; then {kind.restart}",
            ),
        )


def _content(facts: Facts) -> Iterator[Finding]:
    seen = facts.containerd
    if seen.content_trouble:
        yield Finding(
            Code.CONTENT_UNREADABLE,
            "the files of containerd's blobs cannot be read here: layers are served slowly, and not while they are "
            "still downloaded",
            f"{seen.content_root}: {seen.content_trouble}",
            (
                "run serve as root on the host; in a container, mount this directory and give its path there with "
                "--containerd-content-path",
            ),
        )
